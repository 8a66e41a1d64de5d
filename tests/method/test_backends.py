"""What computes attention is chosen by what the machine has, and only if it is right there."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from freeswim.errors import RequestError
from freeswim.method import RefineSettings, attention
from freeswim.method.attention import Backends, available_backends, choose_backends
from freeswim.method.window import InwardWindow

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WINDOW = InwardWindow(2, 11, 9, native_rows=4, native_columns=5)
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that works")


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    """What one test found out about a backend is nothing to the next one."""
    attention._is_right.cache_clear()
    yield
    attention._is_right.cache_clear()


def choose(device: torch.device = CPU, dtype: torch.dtype = torch.float32, **settings) -> Backends:
    return choose_backends(RefineSettings(**settings), WINDOW, device, dtype, 16)


def install(monkeypatch: pytest.MonkeyPatch, name: str, **content: object) -> None:
    """A package of other people's, with what we use of it."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def natten_of(rule: Callable[[int, int, int], int]) -> Callable[..., Tensor]:
    """NATTEN's `na3d`, by a rule for the first key of (query, tokens, kernel length)."""

    def na3d(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kernel_size: tuple[int, int, int] | int,
        stride: tuple[int, int, int] | int = 1,
        dilation: tuple[int, int, int] | int = 1,
        is_causal: tuple[bool, bool, bool] | bool | None = False,
        scale: float | None = None,
    ) -> Tensor:
        assert isinstance(kernel_size, tuple) and query.ndim == 6
        sees = torch.ones(1, 1, dtype=torch.bool)
        for num_tokens, length in zip(query.shape[1:4], kernel_size, strict=True):
            first = torch.tensor([rule(q, num_tokens, length) for q in range(num_tokens)])[:, None]
            axis = (torch.arange(num_tokens) >= first) & (torch.arange(num_tokens) < first + length)
            sees = torch.kron(sees.int(), axis.int()).bool()
        out = scaled_dot_product_attention(
            *(one.flatten(1, 3).transpose(1, 2) for one in (query, key, value)),
            attn_mask=sees,
            scale=scale,
        )
        return out.transpose(1, 2).unflatten(1, query.shape[1:4])

    return na3d


def inward(query: int, num_tokens: int, length: int) -> int:
    return min(max(query - length // 2, 0), num_tokens - length)


def one_too_far(query: int, num_tokens: int, length: int) -> int:
    return min(inward(query, num_tokens, length) + 1, num_tokens - length)


def sage_of(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def sageattn(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        tensor_layout: str = "HND",
        is_causal: bool = False,
        sm_scale: float | None = None,
        return_lse: bool = False,
    ) -> Tensor:
        assert tensor_layout == "NHD" and not is_causal and not return_lse
        assert q.dtype in (torch.float16, torch.bfloat16)
        heads_first = (one.transpose(1, 2) for one in (q, k, v))
        return compute(*heads_first, scale=sm_scale).transpose(1, 2)

    return sageattn


def in_8_bits(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Queries and keys with 8 bits a number, as SageAttention has them."""
    steps = (one.abs().amax((-2, -1), keepdim=True) / 127 for one in (query, key))
    query, key = (
        (one / step).round() * step for one, step in zip((query, key), steps, strict=True)
    )
    return scaled_dot_product_attention(query, key, value, scale=scale)


def test_cpu_takes_tiles_and_refuses_what_it_cannot_run():
    assert available_backends(WINDOW, CPU) == ["tiled"]
    assert choose() == Backends("tiled", "exact")
    with pytest.raises(RequestError, match="natten cannot run on cpu"):
        choose(attention="natten")
    with pytest.raises(RequestError, match="SageAttention cannot run on cpu") as caught:
        choose(full_attention="sage")
    assert "exact" in caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_natten_that_is_right_is_taken_for_right(dtype: torch.dtype, monkeypatch, caplog):
    install(monkeypatch, "natten", HAS_LIBNATTEN=True, na3d=natten_of(inward))
    assert attention._is_right("natten", CPU, dtype, 16)
    assert not caplog.records


@pytest.mark.parametrize(
    "na3d, said",
    [
        (natten_of(one_too_far), "is wrong here"),
        (lambda *tokens, **options: natten_of(inward)(*tokens, options["kernel_size"]), "wrong"),
        (lambda query, *rest, **options: query * float("nan"), "is wrong here by nan"),
        (lambda query, *rest, **options: query[:, :1], "it gave"),
        (natten_of(lambda *axis: 1 // 0), "division"),
    ],
    ids=["window", "scale", "no numbers", "shape", "raises"],
)
def test_natten_that_is_not_right_is_left_out_with_one_warning(na3d, said, monkeypatch, caplog):
    install(monkeypatch, "natten", HAS_LIBNATTEN=True, na3d=na3d)
    for _ in range(2):
        assert not attention._is_right("natten", CPU, torch.float32, 16)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "natten" in record.getMessage() and said in record.getMessage()


@no_gpu
def test_what_fails_on_the_gpu_gives_way_to_the_next(monkeypatch, caplog):
    """There is none here, so that all that needs one fails."""
    install(monkeypatch, "natten", HAS_LIBNATTEN=True, na3d=natten_of(inward))
    install(monkeypatch, "sageattention", sageattn=sage_of(in_8_bits))
    got = choose(CUDA, torch.bfloat16, full_attention="sage")
    assert got == Backends("tiled", "exact")
    warned = [record.getMessage().split()[2] for record in caplog.records]
    assert warned == ["natten", "flex", "sage"]


def test_flex_without_a_compiler_gives_way_to_tiles(monkeypatch, tmp_path, caplog):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing is compiled there yet
    torch.compiler.reset()
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert choose(attention="flex") == Backends("tiled", "exact")
    (record,) = [one for one in caplog.records if one.name == attention.__name__]
    assert "flex fails here" in record.getMessage() and "compiler" in record.getMessage()
    torch.compiler.reset()


def test_sage_in_8_bits_is_near_enough_and_without_its_scale_is_not(monkeypatch, caplog):
    install(monkeypatch, "sageattention", sageattn=sage_of(in_8_bits))
    assert attention._is_right("sage", CPU, torch.bfloat16, 64)
    without_scale = sage_of(lambda *tokens, scale: in_8_bits(*tokens, scale=64**-0.5))
    install(monkeypatch, "sageattention", sageattn=without_scale)
    assert not attention._is_right("sage", CPU, torch.float16, 64)
    assert "sage is wrong" in caplog.text


def test_sage_computes_the_full_branch_only_where_it_is_asked_for_and_there_is_one(monkeypatch):
    install(monkeypatch, "sageattention", sageattn=sage_of(in_8_bits))
    with pytest.raises(RequestError, match="cannot run in float32"):
        choose(CUDA, full_attention="sage", attention="tiled")
    assert choose(CUDA, attention="tiled") == Backends("tiled", "exact")
    got = choose(CUDA, full_attention="sage", guidance="none", attention="tiled")
    assert got == Backends("tiled", "exact")


def test_full_attention_by_sage_takes_its_layout_and_scale(monkeypatch):
    install(monkeypatch, "sageattention", sageattn=sage_of(in_8_bits))
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(1, 40, 2, 16, generator=generator).bfloat16() for _ in range(3)]
    exact = attention.full_attention(*tokens, scale=0.4)
    sage = attention.full_attention(*tokens, scale=0.4, backend="sage")
    assert not torch.equal(sage, exact)
    assert float((sage - exact).norm() / exact.norm()) < 0.05
