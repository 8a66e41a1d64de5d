-- What FreeSwim runs inside DaVinci Resolve where Python is not listed: free from 21.1 on.
--
-- The same operations as freeswim_resolve/operations.py, in the words of PROTOCOL.md, inside what the
-- sandbox leaves: no io, os.execute, os.remove, require, debug, no sockets, print is mute. Requests
-- come as a file that `loadfile` reads, answers go through Fusion's preferences, which others on the
-- machine may read: so each request brings a pad of random bytes that is used once, and its answer
-- is sealed with it. Preferences are written in answer to somebody, never while idle (resolve.md 2.6).
--
-- Nothing in here saves the project, deletes media or calls what the edition lacks. Returns a table
-- with `run`; running this file does nothing.

local PROTOCOL, PLUGIN = 1, "1"
local OURS, ADOPTED = "freeswim:", "freeswim-adopted:"
local PREFS = "Global.FreeSwim."
local REST_S = 0.1 -- between two looks for a request
local STILL_S = 1.0 -- for the viewer to follow the playhead
local MOST_BYTES = 48 * 1024 -- of an answer; a preference holds little more (resolve.md 3.3)
local NUM_KEPT = 100 -- answers
local MOST_MARKERS, MOST_SELECTED, MOST_ITEMS, MOST_TRACKS = 500, 100, 50, 100
local MOST_CLIPS = 20000 -- of a media pool that are looked at for one

-- Methods that are newer than the oldest Resolve that we know, by kind (resolve.md 1.2 to 1.6).
local SINCE = {
  MediaPool = { GetSelectedClips = { 19, 0, 2 }, SetSelectedClip = { 19, 0, 2 } },
  MediaPoolItem = { GetThirdPartyMetadata = { 19, 0, 2 }, SetThirdPartyMetadata = { 19, 0, 2 } },
  Timeline = { GetSelectedClips = { 21, 0, 4 }, GetMarkInOut = { 19, 1, 0 }, GetSettings = { 21, 1, 0 } },
  Project = { GetSettings = { 21, 1, 0 } },
  TimelineItem = { GetSourceStartFrame = { 19, 0, 2 }, GetTrackTypeAndIndex = { 19, 0, 0 } },
}
local OLDEST = { 18, 5, 0 }

------------------------------------------------------------------------------------------- JSON

local NULL = {} -- what JSON calls null
local LIST = {} -- metatable of what is written as a list

local function list(values)
  return setmetatable(values or {}, LIST)
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(letter)
    return ESCAPES[letter] or string.format("\\u%04x", letter:byte())
  end) .. '"'
end

local encode

local function members(value)
  local parts = {}
  if getmetatable(value) == LIST then
    for index = 1, #value do
      parts[index] = encode(value[index])
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, inner in pairs(value) do
    parts[#parts + 1] = quoted(tostring(key)) .. ":" .. encode(inner)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(value)
  local kind = type(value)
  if value == NULL or value == nil then
    return "null"
  elseif kind == "table" then
    return members(value)
  elseif kind == "string" then
    return quoted(value)
  elseif kind == "number" then
    return string.format(value == math.floor(value) and "%d" or "%.17g", value)
  end
  return tostring(value)
end

local function utf8_of(code)
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return string.char(
      0xE0 + math.floor(code / 0x1000),
      0x80 + math.floor(code / 0x40) % 0x40,
      0x80 + code % 0x40
    )
  end
  return string.char(
    0xF0 + math.floor(code / 0x40000),
    0x80 + math.floor(code / 0x1000) % 0x40,
    0x80 + math.floor(code / 0x40) % 0x40,
    0x80 + code % 0x40
  )
end

local LETTERS = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- What a string is from its opening quote on, and where it ends.
local function read_string(text, at)
  local parts, position = {}, at + 1
  while true do
    local stop = text:find('["\\]', position)
    if not stop then
      error("a string without an end")
    end
    parts[#parts + 1] = text:sub(position, stop - 1)
    if text:sub(stop, stop) == '"' then
      return table.concat(parts), stop + 1
    end
    local letter = text:sub(stop + 1, stop + 1)
    position = stop + 2
    if letter == "u" then
      local code = tonumber(text:sub(position, position + 3), 16)
      position = position + 4
      if code >= 0xD800 and code < 0xDC00 then -- the first half of a pair
        local low = tonumber(text:sub(position + 2, position + 5), 16)
        code = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00)
        position = position + 6
      end
      parts[#parts + 1] = utf8_of(code)
    else
      parts[#parts + 1] = LETTERS[letter] or letter
    end
  end
end

local read_value

local function read_members(text, at, close)
  local found, position = close == "]" and list() or {}, text:find("%S", at + 1)
  if text:sub(position, position) == close then
    return found, position + 1
  end
  while true do
    local key = #found + 1
    if close == "}" then
      key, position = read_string(text, text:find('"', position))
      position = text:find(":", position) + 1
    end
    found[key], position = read_value(text, position)
    local stop = text:find("[,%]}]", position)
    position = stop + 1
    if text:sub(stop, stop) == close then
      return found, position
    end
  end
end

local WORDS = { t = { true, 4 }, f = { false, 5 }, n = { NULL, 4 } }

function read_value(text, at)
  at = text:find("%S", at)
  local letter = text:sub(at, at)
  if letter == '"' then
    return read_string(text, at)
  elseif letter == "{" then
    return read_members(text, at, "}")
  elseif letter == "[" then
    return read_members(text, at, "]")
  elseif WORDS[letter] then
    return WORDS[letter][1], at + WORDS[letter][2]
  end
  local _, stop = text:find("^-?[%d%.eE+-]+", at)
  return tonumber(text:sub(at, stop)), stop + 1
end

local function decode(text)
  return (read_value(text, 1))
end

----------------------------------------------------------------------------------------- sealing

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local VALUES = {}
for index = 1, 64 do
  VALUES[DIGITS:byte(index)] = index - 1
end

-- The first `count` bytes of what base64 says.
local function from_base64(text, count)
  local bytes, have, bits = {}, 0, 0
  for index = 1, #text do
    local value = VALUES[text:byte(index)]
    if not value or #bytes >= count then
      break
    end
    have, bits = have * 64 + value, bits + 6
    if bits >= 8 then
      bits = bits - 8
      local unit = 2 ^ bits
      bytes[#bytes + 1] = math.floor(have / unit)
      have = have % unit
    end
  end
  return bytes
end

local function to_base64(bytes)
  local parts = {}
  for index = 1, #bytes, 3 do
    local first, second, third = bytes[index], bytes[index + 1], bytes[index + 2]
    local all = first * 65536 + (second or 0) * 256 + (third or 0)
    local digits = {}
    for place = 1, 4 do
      local digit = math.floor(all / 64 ^ (4 - place)) % 64
      digits[place] = DIGITS:sub(digit + 1, digit + 1)
    end
    digits[3] = second and digits[3] or "="
    digits[4] = third and digits[4] or "="
    parts[#parts + 1] = table.concat(digits)
  end
  return table.concat(parts)
end

-- Exclusive or of two numbers below 16; nobody promises the bit library.
local XOR = {}
for first = 0, 15 do
  XOR[first] = {}
  for second = 0, 15 do
    local sum, a, b = 0, first, second
    for place = 0, 3 do
      if a % 2 ~= b % 2 then
        sum = sum + 2 ^ place
      end
      a, b = math.floor(a / 2), math.floor(b / 2)
    end
    XOR[first][second] = sum
  end
end

local function sealed(text, pad)
  local bytes, key = {}, from_base64(pad, #text)
  if #key < #text then
    error("the pad is too short")
  end
  for index = 1, #text do
    local byte, other = text:byte(index), key[index]
    local high = XOR[math.floor(byte / 16)][math.floor(other / 16)]
    bytes[index] = high * 16 + XOR[byte % 16][other % 16]
  end
  return to_base64(bytes)
end

------------------------------------------------------------------------------------------ border

local border = { version = OLDEST, product = "", words = "" }

local function is_older(version, than)
  for index = 1, 3 do
    if version[index] ~= than[index] then
      return version[index] < than[index]
    end
  end
  return false
end

local function can(kind, method)
  local since = SINCE[kind] and SINCE[kind][method]
  return not since or not is_older(border.version, since)
end

-- What a method answers; nil where it cannot be called, or fails: Resolve's own answers look alike.
local function ask(kind, object, method, ...)
  if not object or not can(kind, method) then
    return nil
  end
  local given, count = { ... }, select("#", ...)
  local done, answer = pcall(function()
    return object[method](object, unpack(given, 1, count))
  end)
  if done and answer ~= false then
    return answer
  end
  return nil
end

local function all(kind, object, method, ...)
  local answer, found = ask(kind, object, method, ...), {}
  if type(answer) == "table" then
    local keys = {}
    for key in pairs(answer) do
      keys[#keys + 1] = key
    end
    table.sort(keys)
    for _, key in ipairs(keys) do
      if answer[key] then
        found[#found + 1] = answer[key]
      end
    end
  end
  return found
end

-- Valid UTF-8 of at most so many bytes: names come in whatever Resolve has, JSON takes only that.
local function text_of(said, most)
  if type(said) ~= "string" then
    return ""
  end
  said = said:sub(1, most or 1000):gsub("%z", "")
  local parts, position = {}, 1
  while position <= #said do
    local byte = said:byte(position)
    local length = byte < 0x80 and 1 or byte >= 0xF0 and 4 or byte >= 0xE0 and 3 or byte >= 0xC2 and 2
    local letter = length and byte < 0xF5 and said:sub(position, position + length - 1)
    local is_sound = letter
      and (length == 1 or (#letter == length and not letter:sub(2):find("[^\128-\191]")))
      and not letter:find("^\237[\160-\191]")
      and not letter:find("^\224[\128-\159]")
      and not letter:find("^\240[\128-\143]")
      and not letter:find("^\244[\144-\191]")
    parts[#parts + 1] = is_sound and letter or "?"
    position = position + (is_sound and length or 1)
  end
  return table.concat(parts)
end

local function whole(said)
  if type(said) ~= "number" or said ~= said or math.abs(said) > 2 ^ 53 then
    return NULL
  end
  return math.floor(said + 0.5)
end

local function or_null(text)
  return text ~= "" and text or NULL
end

local function id_of(kind, object)
  return text_of(ask(kind, object, "GetUniqueId"), 200)
end

local function fail(code, message, facts)
  error({ code = code, message = message, facts = facts or {} }, 0)
end

------------------------------------------------------------------------------------------- facts

local function setting(kind, object, name)
  local said = ask(kind, object, "GetSetting", name)
  if said == nil or said == "" then
    local settings = ask(kind, object, "GetSettings")
    said = type(settings) == "table" and settings[name] or nil
  end
  if type(said) == "boolean" then
    return said and "1" or "0"
  elseif type(said) == "number" then
    return string.format("%.6g", said)
  end
  return text_of(said, 100)
end

local function media_facts(media)
  local function property(name)
    local said = ask("MediaPoolItem", media, "GetClipProperty", name)
    return type(said) == "number" and string.format("%.6g", said) or text_of(said, 4000)
  end
  return {
    id = id_of("MediaPoolItem", media),
    name = text_of(ask("MediaPoolItem", media, "GetName")),
    file = property("File Path"),
    rate = property("FPS"),
    frames = property("Frames"),
    resolution = property("Resolution"),
    start_timecode = property("Start TC"),
  }
end

local function items_of(timeline, track)
  return all("Timeline", timeline, "GetItemListInTrack", "video", track)
end

local function start_of(one)
  local start = whole(ask("TimelineItem", one, "GetStart"))
  return start == NULL and 0 or start
end

local function end_of(one)
  local stop = whole(ask("TimelineItem", one, "GetEnd"))
  return stop == NULL and 0 or stop
end

-- Items that reach into [start, stop), the last before and the first after; found by halving.
local function around(items, start, stop)
  local low, high = 1, #items + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if end_of(items[middle]) <= start then
      low = middle + 1
    else
      high = middle
    end
  end
  local inside, after = {}, low
  while items[after] and start_of(items[after]) < stop do
    inside[#inside + 1] = items[after]
    after = after + 1
  end
  return inside, items[low - 1], items[after]
end

local function track_of(timeline, one)
  local said = ask("TimelineItem", one, "GetTrackTypeAndIndex")
  if type(said) == "table" then
    return text_of(said[1], 50), whole(said[2])
  end
  local start, own = start_of(one), id_of("TimelineItem", one)
  for index = ask("Timeline", timeline, "GetTrackCount", "video") or 0, 1, -1 do
    for _, other in ipairs((around(items_of(timeline, index), start, start + 1))) do
      if id_of("TimelineItem", other) == own then
        return "video", index
      end
    end
  end
  return "", NULL
end

local function item_facts(timeline, one, track)
  if not one then
    return NULL
  end
  local kind, index = "video", track
  if not track then
    kind, index = track_of(timeline, one)
  end
  local media = ask("TimelineItem", one, "GetMediaPoolItem")
  return {
    id = id_of("TimelineItem", one),
    name = text_of(ask("TimelineItem", one, "GetName")),
    track_type = kind,
    track = index,
    start = whole(ask("TimelineItem", one, "GetStart")),
    ["end"] = whole(ask("TimelineItem", one, "GetEnd")),
    left_offset = whole(ask("TimelineItem", one, "GetLeftOffset")),
    source_start = whole(ask("TimelineItem", one, "GetSourceStartFrame")),
    media = media and media_facts(media) or NULL,
  }
end

local function markers_of(timeline)
  local said, found = ask("Timeline", timeline, "GetMarkers"), {}
  if type(said) ~= "table" then
    return found
  end
  for key, marker in pairs(said) do
    local offset = whole(key)
    if offset ~= NULL and type(marker) == "table" then
      found[#found + 1] = {
        offset = offset,
        duration = whole(marker.duration),
        color = text_of(marker.color, 50),
        name = text_of(marker.name, 8000),
        note = text_of(marker.note, 8000),
        custom_data = text_of(marker.customData, 500),
      }
    end
  end
  table.sort(found, function(one, other)
    return one.offset < other.offset
  end)
  return found
end

local function tracks_of(timeline)
  local found = list()
  local count = ask("Timeline", timeline, "GetTrackCount", "video") or 0
  for index = 1, math.min(count, MOST_TRACKS) do
    found[index] = {
      index = index,
      name = text_of(ask("Timeline", timeline, "GetTrackName", "video", index), 200),
      is_locked = ask("Timeline", timeline, "GetIsTrackLocked", "video", index) == true,
      is_enabled = ask("Timeline", timeline, "GetIsTrackEnabled", "video", index) == true,
    }
  end
  return found
end

local function mark_of(timeline)
  local said = ask("Timeline", timeline, "GetMarkInOut")
  local sides = type(said) == "table" and (said.video or said.audio)
  if type(sides) ~= "table" then
    return NULL
  end
  local mark = { ["in"] = whole(sides["in"]), out = whole(sides.out) }
  return (mark["in"] ~= NULL or mark.out ~= NULL) and mark or NULL
end

local function selection_of(timeline)
  if not can("Timeline", "GetSelectedClips") then
    return NULL
  end
  local found = list()
  for _, one in ipairs(all("Timeline", timeline, "GetSelectedClips")) do
    if #found < MOST_SELECTED then
      found[#found + 1] = item_facts(timeline, one)
    end
  end
  return found
end

local function open_project()
  local manager = ask("Resolve", border.root, "GetProjectManager")
  return ask("ProjectManager", manager, "GetCurrentProject")
end

local function timeline_facts(timeline)
  local markers, shown = markers_of(timeline), list()
  for index = 1, math.min(#markers, MOST_MARKERS) do
    shown[index] = markers[index]
  end
  return {
    id = id_of("Timeline", timeline),
    name = text_of(ask("Timeline", timeline, "GetName")),
    rate = setting("Timeline", timeline, "timelineFrameRate"),
    drop_frame = setting("Timeline", timeline, "timelineDropFrameTimecode"),
    width = setting("Timeline", timeline, "timelineResolutionWidth"),
    height = setting("Timeline", timeline, "timelineResolutionHeight"),
    start_frame = whole(ask("Timeline", timeline, "GetStartFrame")),
    end_frame = whole(ask("Timeline", timeline, "GetEndFrame")),
    start_timecode = or_null(text_of(ask("Timeline", timeline, "GetStartTimecode"), 50)),
    playhead = or_null(text_of(ask("Timeline", timeline, "GetCurrentTimecode"), 50)),
    mark = mark_of(timeline),
    tracks = tracks_of(timeline),
    current = item_facts(timeline, ask("Timeline", timeline, "GetCurrentVideoItem")),
    selection = selection_of(timeline),
    markers = shown,
    markers_left_out = #markers - #shown,
  }
end

-- What the editor looks at; markers are left out from the end where it would be too long.
local function snapshot()
  local project = open_project()
  local timeline = ask("Project", project, "GetCurrentTimeline")
  local seen = {
    page = or_null(text_of(ask("Resolve", border.root, "GetCurrentPage"), 50)),
    project = project and {
      id = id_of("Project", project),
      name = text_of(ask("Project", project, "GetName")),
      rate = setting("Project", project, "timelineFrameRate"),
    } or NULL,
    timeline = timeline and timeline_facts(timeline) or NULL,
  }
  local markers = timeline and seen.timeline.markers
  while markers and #markers > 0 and #encode(seen) > MOST_BYTES - 1024 do
    for _ = 1, math.ceil(#markers / 8) do
      table.remove(markers)
      seen.timeline.markers_left_out = seen.timeline.markers_left_out + 1
    end
  end
  return seen
end

----------------------------------------------------------------------------------------- finding

local function find_project(asked)
  local project = open_project()
  local id = id_of("Project", project)
  if id == "" then
    fail("no_project", "No project is open.")
  elseif id ~= asked.project then
    fail("other_project", "Another project is open.", { project = id })
  end
  return project
end

local function find_timeline(project, asked)
  local current = ask("Project", project, "GetCurrentTimeline")
  if id_of("Timeline", current) == asked.timeline then
    return current
  end
  for index = 1, ask("Project", project, "GetTimelineCount") or 0 do
    local timeline = ask("Project", project, "GetTimelineByIndex", index)
    if id_of("Timeline", timeline) == asked.timeline then
      return timeline
    end
  end
  fail("no_timeline", "The timeline is not there any more.")
end

local function current_timeline(project, asked)
  local current = ask("Project", project, "GetCurrentTimeline")
  if id_of("Timeline", current) ~= asked.timeline then
    fail("timeline_not_current", "The editor is on another timeline.")
  end
  return current
end

local function check_track(timeline, track, must_be_open)
  local count = ask("Timeline", timeline, "GetTrackCount", "video") or 0
  if track < 1 or track > count then
    fail("no_track", "There is no such track.", { tracks = count })
  elseif must_be_open and ask("Timeline", timeline, "GetIsTrackLocked", "video", track) == true then
    fail("track_locked", "The track is locked.")
  end
end

local function pool_of(project)
  local pool = ask("Project", project, "GetMediaPool")
  local root = ask("MediaPool", pool, "GetRootFolder")
  if not root then
    fail("no_pool", "Resolve does not give its media pool.")
  end
  return pool, root
end

local function child(folder, name)
  for _, inner in ipairs(all("Folder", folder, "GetSubFolderList")) do
    if ask("Folder", inner, "GetName") == name then
      return inner
    end
  end
  return nil
end

local function find_folder(root, names)
  local folder = root
  for _, name in ipairs(names) do
    folder = child(folder, name) or fail("no_bin", "The bin is not there.")
  end
  return folder
end

-- A clip by its id: in its bin, or where the editor has moved it to.
local function find_media(root, names, media_id)
  local folder = root
  for _, name in ipairs(names) do
    folder = folder and child(folder, name)
  end
  local waiting, at, looked_at = folder and { folder, root } or { root }, 1, 0
  while waiting[at] and looked_at < MOST_CLIPS do
    for _, clip in ipairs(all("Folder", waiting[at], "GetClipList")) do
      looked_at = looked_at + 1
      if id_of("MediaPoolItem", clip) == media_id then
        return clip
      end
    end
    for _, inner in ipairs(all("Folder", waiting[at], "GetSubFolderList")) do
      waiting[#waiting + 1] = inner
    end
    at = at + 1
  end
  fail("no_media", "The clip is not in the media pool any more.")
end

local function is_same_file(said, path)
  return type(said) == "string" and said:gsub("\\", "/") == path:gsub("\\", "/")
end

local function find_by_mark(timeline, custom_data)
  local adopted = ADOPTED .. custom_data:sub(#OURS + 1)
  for _, wanted in ipairs({ custom_data, adopted }) do
    for _, marker in ipairs(markers_of(timeline)) do
      if marker.custom_data == wanted then
        return marker
      end
    end
  end
  return nil
end

-------------------------------------------------------------------------------------- operations

local operations = {}

local function edition()
  return border.product:find("Studio", 1, true) and "studio" or "free"
end

function operations.hello()
  local version = list({ border.version[1], border.version[2], border.version[3] })
  return {
    protocol = PROTOCOL,
    plugin = PLUGIN,
    python = "",
    product = border.product,
    version = version,
    version_words = border.words,
    edition = edition(),
  }
end

operations.context = snapshot

function operations.readback(asked)
  local timeline = find_timeline(find_project(asked), asked)
  check_track(timeline, asked.track)
  local inside, before, after = around(items_of(timeline, asked.track), asked.start, asked["end"])
  local shown = list()
  for index = 1, math.min(#inside, MOST_ITEMS) do
    shown[index] = item_facts(timeline, inside[index], asked.track)
  end
  return {
    items = shown,
    left_out = #inside - #shown,
    before = item_facts(timeline, before, asked.track),
    after = item_facts(timeline, after, asked.track),
  }
end

-- The studio compares what was written with what was shown before the move: no file can be read here.
function operations.still(asked)
  local project = find_project(asked)
  local timeline = current_timeline(project, asked)
  local playhead = text_of(ask("Timeline", timeline, "GetCurrentTimecode"), 50)
  local facts = { path = asked.path, timecode = asked.timecode, before = NULL }
  if playhead == "" then
    fail("no_playhead", "This page has no playhead.")
  elseif playhead == asked.timecode then
    ask("Project", project, "ExportCurrentFrameAsStill", asked.path)
    return facts
  elseif asked.move ~= true then
    fail("playhead_moved", "The playhead is elsewhere.", { playhead = playhead })
  end
  facts.before = asked.path .. ".before.png"
  ask("Project", project, "ExportCurrentFrameAsStill", facts.before)
  local has_moved = ask("Timeline", timeline, "SetCurrentTimecode", asked.timecode)
  if has_moved then
    bmd.wait(STILL_S)
    ask("Project", project, "ExportCurrentFrameAsStill", asked.path)
  end
  ask("Timeline", timeline, "SetCurrentTimecode", playhead)
  if not has_moved then
    fail("no_such_timecode", "The playhead cannot be put there.", { before = facts.before })
  end
  return facts
end

function operations.ensure_bin(asked)
  local pool, folder = pool_of(find_project(asked))
  local came_from, is_new = ask("MediaPool", pool, "GetCurrentFolder"), false
  for _, name in ipairs(asked.bin) do
    local inner = child(folder, name)
    if not inner then
      ask("MediaPool", pool, "AddSubFolder", folder, name)
      inner, is_new = child(folder, name) or fail("no_bin", "Resolve made no such bin."), true
    end
    folder = inner
  end
  ask("MediaPool", pool, "SetCurrentFolder", came_from)
  return { bin = id_of("Folder", folder), is_new = is_new }
end

operations["import"] = function(asked)
  local pool, root = pool_of(find_project(asked))
  local folder = find_folder(root, asked.bin)
  local before = {}
  for _, clip in ipairs(all("Folder", folder, "GetClipList")) do
    before[id_of("MediaPoolItem", clip)] = true
    if is_same_file(ask("MediaPoolItem", clip, "GetClipProperty", "File Path"), asked.path) then
      local facts = media_facts(clip)
      facts.is_new = false
      return facts
    end
  end
  local came_from = ask("MediaPool", pool, "GetCurrentFolder")
  -- ImportMedia goes to the current folder only (resolve.md 1.3).
  if not ask("MediaPool", pool, "SetCurrentFolder", folder) then
    fail("no_bin", "Resolve does not go to the bin.")
  end
  ask("MediaPool", pool, "ImportMedia", { asked.path })
  ask("MediaPool", pool, "SetCurrentFolder", came_from)
  local new = {}
  for _, clip in ipairs(all("Folder", folder, "GetClipList")) do
    if not before[id_of("MediaPoolItem", clip)] then
      new[#new + 1] = clip
    end
  end
  if #new ~= 1 then
    fail("not_imported", "Resolve took it for no media.", { imported = #new })
  end
  local facts = media_facts(new[1])
  facts.is_new = true
  return facts
end

function operations.set_meta(asked)
  local _, root = pool_of(find_project(asked))
  local clip, stored = find_media(root, asked.bin, asked.media), {}
  for name, value in pairs(asked.values) do
    ask("MediaPoolItem", clip, "SetThirdPartyMetadata", name, value)
    stored[name] = text_of(ask("MediaPoolItem", clip, "GetThirdPartyMetadata", name), 4000)
  end
  return { where = "third_party", stored = stored }
end

function operations.replace_clip(asked)
  local _, root = pool_of(find_project(asked))
  local clip = find_media(root, asked.bin, asked.media)
  local ours = false
  for name in pairs(ask("MediaPoolItem", clip, "GetThirdPartyMetadata") or {}) do
    ours = ours or tostring(name):find("freeswim.", 1, true) == 1
  end
  if not ours then
    fail("not_ours", "The clip was not made by FreeSwim.")
  end
  ask("MediaPoolItem", clip, "ReplaceClip", asked.path)
  if not is_same_file(ask("MediaPoolItem", clip, "GetClipProperty", "File Path"), asked.path) then
    fail("not_replaced", "Resolve kept the clip as it was.")
  end
  return media_facts(clip)
end

function operations.add_track(asked)
  local timeline = find_timeline(find_project(asked), asked)
  local before = ask("Timeline", timeline, "GetTrackCount", "video") or 0
  ask("Timeline", timeline, "AddTrack", "video")
  local after = ask("Timeline", timeline, "GetTrackCount", "video") or 0
  if after ~= before + 1 then
    fail("no_track", "Resolve added no track.", { tracks = after })
  end
  ask("Timeline", timeline, "SetTrackName", "video", after, asked.name)
  local name = text_of(ask("Timeline", timeline, "GetTrackName", "video", after), 200)
  return { track = after, name = name }
end

local function is_of(one, media_id)
  local media = ask("TimelineItem", one, "GetMediaPoolItem")
  return media ~= nil and media_id ~= "" and id_of("MediaPoolItem", media) == media_id
end

-- What reaches into the place, and whether that is the clip with its start and its length alone.
local function at_place(timeline, asked)
  local stop = asked.record_frame + asked.end_frame - asked.start_frame
  local there = around(items_of(timeline, asked.track), asked.record_frame, stop)
  local is_it = #there == 1
    and is_of(there[1], asked.media)
    and start_of(there[1]) == asked.record_frame
    and end_of(there[1]) == stop
  return there, is_it
end

local function append(pool, clip, asked, correction)
  local placed = all("MediaPool", pool, "AppendToTimeline", {
    {
      mediaPoolItem = clip,
      startFrame = asked.start_frame,
      endFrame = asked.end_frame + correction,
      mediaType = 1, -- pictures alone
      trackIndex = asked.track,
      recordFrame = asked.record_frame,
    },
  })
  for _, one in ipairs(placed) do
    if id_of("TimelineItem", one) ~= "" then
      return true
    end
  end
  return false
end

-- Remove what was placed a moment ago on a part that was free, and nothing else.
local function take_back(timeline, asked, placed)
  local mine = {}
  for _, one in ipairs(placed) do
    if is_of(one, asked.media) and start_of(one) == asked.record_frame then
      mine[#mine + 1] = one
    end
  end
  if #mine == 1 then
    ask("Timeline", timeline, "DeleteClips", { mine[1] }, false)
  end
  for _, one in ipairs((at_place(timeline, asked))) do
    if is_of(one, asked.media) then -- not on the Edit page
      local item = item_facts(timeline, one, asked.track)
      fail("wrong_length", "Resolve placed it with another length.", { item = item })
    end
  end
end

function operations.place(asked)
  local project = find_project(asked)
  local timeline = current_timeline(project, asked)
  local pool, root = pool_of(project)
  local clip = find_media(root, asked.bin, asked.media)
  check_track(timeline, asked.track, true)
  local first = whole(ask("Timeline", timeline, "GetStartFrame"))
  if first == NULL or asked.record_frame < first then
    fail("before_start", "The timeline begins later.", { start_frame = first })
  end
  local there, is_it = at_place(timeline, asked)
  local function facts(was_there, correction, is_certain)
    return {
      item = item_facts(timeline, there[1], asked.track),
      was_there = was_there,
      end_correction = correction,
      is_certain = is_certain,
    }
  end
  if is_it then
    return facts(true, 0, true)
  elseif #there > 0 then
    local items = list()
    for index = 1, math.min(#there, 10) do
      items[index] = item_facts(timeline, there[index], asked.track)
    end
    fail("occupied", "Something is on the track already.", { items = items })
  end
  -- Whether the end is part of it differs between versions (resolve.md 2.2).
  local was_placed = false
  for _, correction in ipairs({ 0, -1, 1 }) do
    if asked.end_frame + correction > asked.start_frame then
      local is_certain = append(pool, clip, asked, correction)
      there, is_it = at_place(timeline, asked)
      if is_it then
        return facts(false, correction, is_certain)
      elseif #there > 0 then
        was_placed = true
        take_back(timeline, asked, there)
      end
    end
  end
  if was_placed then
    fail("wrong_length", "Resolve places it with another length.")
  end
  fail("not_placed", "Resolve answered, and placed nothing.")
end

function operations.add_take(asked)
  local project = find_project(asked)
  local timeline = find_timeline(project, asked)
  local _, root = pool_of(project)
  local clip = find_media(root, asked.bin, asked.media)
  check_track(timeline, asked.track, true)
  local one
  for _, other in ipairs((around(items_of(timeline, asked.track), asked.start, asked.start + 1))) do
    if id_of("TimelineItem", other) == asked.item then
      one = other
    end
  end
  if not one then
    fail("no_item", "The clip is not there any more.")
  end
  local before = ask("TimelineItem", one, "GetTakesCount") or 0
  local shown = ask("TimelineItem", one, "GetSelectedTakeIndex") or 1
  if shown < 1 then
    shown = 1
  end
  ask("TimelineItem", one, "AddTake", clip, asked.start_frame, asked.end_frame)
  local after = ask("TimelineItem", one, "GetTakesCount") or 0
  if after <= before then
    fail("no_take", "Resolve added no take.", { takes = after })
  end
  ask("TimelineItem", one, "SelectTakeByIndex", asked.select == true and after or shown)
  return { takes = after, shown = whole(ask("TimelineItem", one, "GetSelectedTakeIndex")) }
end

function operations.add_marker(asked)
  local timeline = find_timeline(find_project(asked), asked)
  local known = find_by_mark(timeline, asked.custom_data)
  if known then
    return { marker = known, is_new = false }
  end
  local custom_data, taken = asked.custom_data, nil
  for _, marker in ipairs(markers_of(timeline)) do
    if marker.offset == asked.offset then
      taken = marker
    end
  end
  if taken and taken.custom_data ~= "" then
    fail("marker_taken", "The marker there is somebody's.", { marker = taken })
  elseif taken then -- one of the editor's, which is followed and looks as before
    custom_data = ADOPTED .. asked.custom_data:sub(#OURS + 1)
    ask("Timeline", timeline, "UpdateMarkerCustomData", asked.offset, custom_data)
  else
    ask(
      "Timeline",
      timeline,
      "AddMarker",
      asked.offset,
      asked.color or "Mint",
      asked.name or "",
      asked.note or "",
      asked.duration or 1,
      custom_data
    )
  end
  local marker = find_by_mark(timeline, asked.custom_data)
  if not marker then
    fail("no_marker", "Resolve made no marker.")
  end
  return { marker = marker, is_new = not taken }
end

function operations.find_marker(asked)
  local timeline = find_timeline(find_project(asked), asked)
  return { marker = find_by_mark(timeline, asked.custom_data) or NULL }
end

function operations.delete_marker(asked)
  local timeline = find_timeline(find_project(asked), asked)
  local marker = find_by_mark(timeline, asked.custom_data)
  if marker and marker.custom_data == asked.custom_data then
    ask("Timeline", timeline, "DeleteMarkerByCustomData", asked.custom_data)
  elseif marker then
    ask("Timeline", timeline, "UpdateMarkerCustomData", marker.offset, "")
  end
  return { is_gone = find_by_mark(timeline, asked.custom_data) == nil }
end

-- Arguments of each operation that must be there: s(tring), n(umber), l(ist), t(able). A `?` may not.
local ARGUMENTS = {
  hello = {},
  context = {},
  bye = {},
  verb = { key = "s" },
  readback = { project = "s", timeline = "s", track = "n", start = "n", ["end"] = "n" },
  still = { project = "s", timeline = "s", path = "s", timecode = "s", move = "?" },
  ensure_bin = { project = "s", bin = "l" },
  ["import"] = { project = "s", bin = "l", path = "s" },
  set_meta = { project = "s", bin = "l", media = "s", values = "t" },
  replace_clip = { project = "s", bin = "l", media = "s", path = "s" },
  add_track = { project = "s", timeline = "s", name = "s" },
  place = {
    project = "s",
    timeline = "s",
    bin = "l",
    media = "s",
    track = "n",
    record_frame = "n",
    start_frame = "n",
    end_frame = "n",
  },
  add_take = {
    project = "s",
    timeline = "s",
    bin = "l",
    track = "n",
    start = "n",
    item = "s",
    media = "s",
    start_frame = "n",
    end_frame = "n",
    select = "?",
  },
  add_marker = {
    project = "s",
    timeline = "s",
    offset = "n",
    custom_data = "s",
    color = "?",
    name = "?",
    note = "?",
    duration = "?",
  },
  find_marker = { project = "s", timeline = "s", custom_data = "s" },
  delete_marker = { project = "s", timeline = "s", custom_data = "s" },
}
local KINDS = { s = "string", n = "number", l = "table", t = "table" }

local function check_arguments(name, given)
  local fields = ARGUMENTS[name]
  if not fields then
    fail("unknown_operation", "This plugin has no such operation.")
  end
  for field, kind in pairs(fields) do
    if kind ~= "?" and type(given[field]) ~= KINDS[kind] then
      fail("bad_arguments", "The argument " .. field .. " is wrong.")
    end
  end
  for field in pairs(given) do
    if not fields[field] then
      fail("bad_arguments", "The operation's arguments are not its own.")
    end
  end
  local mark = given.custom_data
  if mark and (mark:sub(1, #OURS) ~= OURS or #mark == #OURS) then
    fail("bad_arguments", "The argument custom_data is wrong.")
  end
end

local function execute(name, given)
  check_arguments(name, given)
  local needs_place = name ~= "hello" and name ~= "context" and name ~= "bye" and name ~= "verb"
  if needs_place and is_older(border.version, OLDEST) then
    fail("too_old", "Resolve 18.5 is the oldest that can place clips.")
  end
  return operations[name](given)
end

-------------------------------------------------------------------------------------------- talk

local function look_at_resolve(root)
  border.root = root
  local said = ask("Resolve", root, "GetVersion")
  if type(said) == "table" and tonumber(said[1]) then
    border.version = { tonumber(said[1]), tonumber(said[2]) or 0, tonumber(said[3]) or 0 }
  end
  border.product = text_of(ask("Resolve", root, "GetProductName"), 100)
  border.words = text_of(ask("Resolve", root, "GetVersionString"), 100)
end

-- Thirty-two digits that no other run of this script has.
local function new_token()
  local salt = tonumber(tostring({}):match("0x(%x+)") or "0", 16) or 0
  math.randomseed((os.time() * 1000 + os.clock() * 1000000 + salt) % 2 ^ 31)
  local digits = {}
  for index = 1, 32 do
    digits[index] = string.format("%x", math.random(0, 15))
  end
  return table.concat(digits)
end

local talk = { answers = {}, order = {} }

function talk.answer_to(operation)
  local number = operation.id
  if talk.answers[number] then
    return talk.answers[number]
  end
  local done, facts = pcall(execute, operation.name, operation.arguments)
  local answer = { id = number, ok = true, facts = facts, error = NULL, owner = talk.owner }
  if not done and type(facts) == "table" and facts.code then
    answer.ok, answer.facts = false, facts.facts
    answer.error = { code = facts.code, message = facts.message }
  elseif not done then -- a mistake of ours; the studio is to hear of it instead of waiting
    answer.ok, answer.facts = false, {}
    answer.error = { code = "plugin_error", message = text_of(facts, 200) }
  end
  local words = encode(answer)
  if #words > MOST_BYTES then
    local error_of = { code = "too_long", message = "The answer is too long for the mailbox." }
    words = encode({ id = number, ok = false, facts = {}, error = error_of, owner = talk.owner })
  end
  talk.answers[number] = words
  talk.order[#talk.order + 1] = number
  if #talk.order > NUM_KEPT then
    talk.answers[table.remove(talk.order, 1)] = nil
  end
  return words
end

function talk.put(name, value)
  fusion:SetPrefs(PREFS .. name, value)
end

-- A sign that this ran: the doctor looks for it where nothing connects, as for the Python plugin's.
function talk.leave_sign(verb)
  if border.words ~= "" then
    local version = border.words:gsub("[^%w.]", "")
    local said = string.format("%d %s %s %s %s", os.time(), verb, PLUGIN, edition(), version)
    talk.put("Seen", said)
  end
end

-- A whole request, or nil: it is written in one step, but may be gone or of another version.
function talk.read(path)
  local chunk = loadfile(path)
  local done, request = pcall(chunk or error)
  if done and type(request) == "table" and type(request.id) == "string" then
    return request
  end
  return nil
end

-- Whether the script goes on; nil: nothing was done, look again.
function talk.handle(request)
  if request.to ~= talk.owner then
    return true -- a script in another Resolve is meant
  end
  if fusion:GetPrefs(PREFS .. "Ack") == request.id then
    return true -- another run of this script has begun it
  end
  talk.put("Ack", request.id)
  if fusion:GetPrefs(PREFS .. "Ack") ~= request.id then
    return nil -- a window of Resolve's is open: nothing is heard behind it
  end
  fusion:SavePrefs()
  local body = decode(request.body)
  local answer = talk.answer_to(body.operation)
  talk.put("Response", request.id .. ":" .. sealed(answer, body.pad))
  fusion:SavePrefs()
  return body.operation.name ~= "bye"
end

-- A menu entry was chosen. Runs until another one is, or Resolve ends.
local function run(mailbox, verb)
  look_at_resolve(resolve)
  local owner = new_token()
  talk.owner = owner
  local seen = snapshot() -- first of all: the editor goes on
  function operations.verb(asked)
    if asked.key ~= owner then
      fail("no_verb", "This menu entry is not known any more.")
    end
    return { verb = verb, key = owner, context = seen }
  end
  function operations.bye()
    return {}
  end
  talk.leave_sign(verb)
  talk.put("Owner", owner)
  fusion:SavePrefs()
  local last, goes_on = nil, true
  while goes_on do
    local request = talk.read(mailbox .. "/request.lua")
    if request and request.id ~= last then
      local done, answer = pcall(talk.handle, request)
      if not done or answer ~= nil then
        last, goes_on = request.id, not done or answer
      end
    end
    bmd.wait(REST_S)
    local now = fusion:GetPrefs(PREFS .. "Owner")
    goes_on = goes_on and (type(now) ~= "string" or now == owner)
  end
end

return { run = run }
