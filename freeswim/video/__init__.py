"""Video files in and out: reader, writer, and what lies between them and the latents."""
