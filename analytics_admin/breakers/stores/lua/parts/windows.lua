-- Counts calls in a window; a look costs the same whatever its size. Needs record.lua.
-- Two fields of the record's hash: the sums, which a look reads, and the buckets that they are of.
-- time:<seconds>          number of the newest bucket, calls, failures, slow calls; those of the
--                         newest bucket
-- count:<calls>           calls, failures, slow calls
-- ...:buckets             of a time window a ring of all buckets but the newest: the number of bytes
--                         of each number, then the three numbers of each bucket; empty: all are 0.
--                         Of a count window a packed list of the three numbers of each bucket, oldest
--                         first
-- The number of a bucket is its second divided by its width. `windows.py` counts the same for the
-- memory store. What is damaged raises: the window begins anew.
local function sound(number)
  if not (number >= 0 and number < 1e14) then error('damaged', 0) end
  return number
end

local function load_buckets(w)
  local packed = w.packed or redis.call('HGET', w.key, w.field .. ':buckets')
  if not packed or #packed > MAX_BUCKETS_BYTES then error('damaged', 0) end
  return packed
end

local function add_up(w, c, f, o)
  w.c, w.f, w.o = sound(w.c + c), sound(w.f + f), sound(w.o + o)
end

-- Time windows. A look at a bucket, and a change of one, cost the same whatever the ring's size.

local FORMS = {'>I1I1I1', '>I2I2I2', '>I3I3I3', '>I4I4I4', '>I5I5I5', '>I6I6I6'}
local NONE = {'\0\0\0'}
for bytes = 2, #FORMS do NONE[bytes] = string.rep('\0', 3 * bytes) end

local function load_ring(w)
  if w.c == w.nc then
    w.ring = '\1' .. string.rep(NONE[1], w.places)
  else
    w.ring = load_buckets(w)
  end
  w.bytes = string.byte(w.ring)
  if not FORMS[w.bytes] or #w.ring ~= 1 + 3 * w.bytes * w.places then error('damaged', 0) end
end

-- Returns the place of a bucket in the ring.
local function find(w, bucket)
  if not w.ring then load_ring(w) end
  return 2 + 3 * w.bytes * (bucket % w.places)
end

local function widen(w, bytes)
  local wide = {string.char(bytes)}
  for i = 1, w.places do
    local c, f, o = struct.unpack(FORMS[w.bytes], w.ring, find(w, i - 1))
    wide[i + 1] = struct.pack(FORMS[bytes], c, f, o)
  end
  w.ring, w.bytes = table.concat(wide), bytes
end

local function add_to(w, bucket, c, f, o)
  local at = find(w, bucket)
  local c0, f0, o0 = struct.unpack(FORMS[w.bytes], w.ring, at)
  c, f, o = sound(c0 + c), sound(f0 + f), sound(o0 + o)
  local most, bytes = math.max(c, f, o), w.bytes
  while most >= 256 ^ bytes do bytes = bytes + 1 end
  if bytes > w.bytes then
    widen(w, bytes)
    at = find(w, bucket)
  end
  w.ring = string.sub(w.ring, 1, at - 1) .. struct.pack(FORMS[bytes], c, f, o)
    .. string.sub(w.ring, at + 3 * bytes)
end

local function take_out(w, bucket)
  local at = find(w, bucket)
  local none = NONE[w.bytes]
  if string.sub(w.ring, at, at + #none - 1) == none then return 0, 0, 0 end
  local c, f, o = struct.unpack(FORMS[w.bytes], w.ring, at)
  w.ring = string.sub(w.ring, 1, at - 1) .. none .. string.sub(w.ring, at + #none)
  return c, f, o
end

local function subtract(w, c, f, o)
  if c + f + o > 0 then add_up(w, -c, -f, -o) end
end

-- Moves on to the current second. If the clock was set back, what lies ahead of it is dropped.
local function move_on(w, current)
  local distance = current - w.newest
  if distance == 0 then return end
  w.is_changed = w.is_changed or w.c > 0
  if w.c > 0 and math.abs(distance) < w.places then
    if distance > 0 then
      add_to(w, w.newest, w.nc, w.nf, w.no)
      for bucket = w.newest + 1, current do subtract(w, take_out(w, bucket)) end
      w.nc, w.nf, w.no = 0, 0, 0
    else
      find(w, current)
      subtract(w, w.nc, w.nf, w.no)
      for bucket = current + 1, w.newest - 1 do subtract(w, take_out(w, bucket)) end
      w.nc, w.nf, w.no = take_out(w, current)
    end
  else
    w.c, w.f, w.o, w.nc, w.nf, w.no, w.ring = 0, 0, 0, 0, 0, 0, false
  end
  w.newest = current
end

local function add_timed(w, at, c, f, o)
  local bucket = math.floor(at / w.width)
  if at > second or bucket <= w.newest - w.places then return end
  if bucket == w.newest then
    w.nc, w.nf, w.no = w.nc + c, w.nf + f, w.no + o
  else
    add_to(w, bucket, c, f, o)
  end
  add_up(w, c, f, o)
  w.is_changed = true
end

-- Count windows.

-- Drops the oldest calls but for so many. In a bucket that is cut, failures lie evenly.
local function shorten(w, most)
  local list = w.list
  while w.c > most do
    local c, f, o = sound(list[w.first]), sound(list[w.first + 1]), sound(list[w.first + 2])
    local left = c - (w.c - most)
    if left <= 0 then
      w.first = w.first + 3
      add_up(w, -c, -f, -o)
    else
      local f_left = math.floor((2 * f * left + c) / (2 * c))
      local o_left = math.floor((2 * o * left + c) / (2 * c))
      list[w.first], list[w.first + 1], list[w.first + 2] = left, f_left, o_left
      add_up(w, left - c, f_left - f, o_left - o)
    end
  end
end

-- Adds calls that are all alike. Healthy ones share a bucket of any size.
local function add_counted(w, calls, failures, slow)
  local rest = math.min(calls, w.size)
  local is_healthy = failures == 0 and slow == 0
  shorten(w, w.size - rest)
  local list = w.list
  while rest > 0 do
    local last = #list - 2
    local shares = last >= w.first and is_healthy and list[last + 1] == 0 and list[last + 2] == 0
    if last < w.first or not shares and sound(list[last]) >= w.width then
      last, shares = #list + 1, is_healthy
      list[last], list[last + 1], list[last + 2] = 0, 0, 0
    end
    local c = shares and rest or math.min(rest, w.width - list[last])
    local f, o = failures > 0 and c or 0, slow > 0 and c or 0
    list[last], list[last + 1], list[last + 2] =
      sound(list[last]) + c, sound(list[last + 1]) + f, sound(list[last + 2]) + o
    add_up(w, c, f, o)
    rest = rest - c
  end
  w.is_changed = true
end

local shapes = {}
local function shape_of(window)
  if not shapes[window] then
    local kind, size = string.match(window, '^(%a+):(%d+)$')
    local width = math.ceil(size / MAX_BUCKETS)
    shapes[window] = {is_timed = kind == 'time', size = tonumber(size), width = width,
      places = math.ceil(size / width), current = math.floor(second / width),
      buckets = window .. ':buckets'}
  end
  return shapes[window]
end

-- Returns the numbers that a window's sums consist of.
local function numbers_of(sums, is_timed)
  local newest, c, f, o, nc, nf, no
  if not sums then
    return 0, 0, 0, 0, 0, 0, 0
  elseif is_timed then
    newest, c, f, o, nc, nf, no =
      string.match(sums, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  else
    newest, nc, nf, no = 0, 0, 0, 0
    c, f, o = string.match(sums, '^(%d+) (%d+) (%d+)$')
  end
  if not c or #sums > 120 then error('damaged', 0) end
  sound(math.max(newest, c, f, o, nc, nf, no))
  return tonumber(newest), tonumber(c), tonumber(f), tonumber(o), tonumber(nc), tonumber(nf),
    tonumber(no)
end

-- Adds the results to a time window. Those of the newest bucket come first: it moves on but once.
local function count_timed(w, current, results)
  local seconds, c = results and results.seconds or {}, 0
  local newest, rest = w.newest, {}
  for i = 1, #seconds, 2 do
    local at, number = seconds[i], seconds[i + 1]
    if at <= second and math.floor(at / w.width) == newest then
      c = c + number
    else
      rest[#rest + 1] = i
    end
  end
  if c > 0 then
    w.nc, w.is_changed = w.nc + c, true
    add_up(w, c, 0, 0)
  end
  move_on(w, current)
  for _, i in ipairs(rest) do add_timed(w, seconds[i], seconds[i + 1], 0, 0) end
  if not results then return end
  local slow, failures, both = results.slow, results.failures, results.slow_failures
  if slow > 0 then add_timed(w, second, slow, 0, slow) end
  if failures > 0 then add_timed(w, second, failures, failures, 0) end
  if both > 0 then add_timed(w, second, both, both, both) end
end

-- Adds the results to a count window.
local function count_counted(w, results)
  local slow, failures, both = results.slow, results.failures, results.slow_failures
  w.first, w.list = 1, w.c > 0 and cmsgpack.unpack(load_buckets(w)) or {}
  if results.quick > 0 then add_counted(w, results.quick, 0, 0) end
  if slow > 0 then add_counted(w, slow, 0, slow) end
  if failures > 0 then add_counted(w, failures, failures, 0) end
  if both > 0 then add_counted(w, both, both, both) end
end

local function count_in_window(key, window, sums, packed, results, changes)
  local shape = shape_of(window)
  local newest, c, f, o, nc, nf, no = numbers_of(sums, shape.is_timed)
  local w = {key = key, field = window, packed = packed, size = shape.size, width = shape.width,
    places = shape.places, newest = newest, c = c, f = f, o = o, nc = nc, nf = nf, no = no,
    ring = false, bytes = false, is_changed = false} -- all at once: a table that grows costs more
  local at = #changes
  if shape.is_timed then
    count_timed(w, shape.current, results)
    if w.is_changed then
      changes[at + 1], changes[at + 2] = window, string.format('%d %d %d %d %d %d %d', w.newest, w.c,
        w.f, w.o, w.nc, w.nf, w.no)
      if w.ring then
        changes[at + 3], changes[at + 4] = shape.buckets, w.c == w.nc and '' or w.ring
      end
    end
  elseif results then
    count_counted(w, results)
    changes[at + 1], changes[at + 2] = window, string.format('%d %d %d', w.c, w.f, w.o)
    changes[at + 3], changes[at + 4] = shape.buckets, cmsgpack.pack({unpack(w.list, w.first)})
  end
  return {w.c, w.f, w.o}
end

-- Returns calls, failures and slow calls of these sums, if they are those of now.
local function current_counts(sums, shape)
  local rest = sums
  if shape.is_timed then rest = string.match(sums, '^' .. shape.current .. ' (.*)$') end
  local c, f, o = string.match(rest or '', '^(%d+) (%d+) (%d+)')
  if c and math.max(#c, #f, #o) < 15 then return tonumber(c), tonumber(f), tonumber(o) end
end

-- Returns the window's sums with these results, if there are any, and adds to `changes` the fields
-- and values that are to be stored. `packed` are the stored buckets, where they were read.
local function window_counts(key, window, sums, packed, results, changes)
  if not results then -- most looks end here
    if not sums then return 0, 0, 0 end
    local c, f, o = current_counts(sums, shape_of(window))
    if c then return c, f, o end
  end
  local counts = guarded(count_in_window, key, window, sums, packed, results, changes)
    or guarded(count_in_window, key, window, false, nil, results, changes) -- damaged: begins anew
  if not sums and redis.call('HLEN', key) > MAX_WINDOW_FIELDS then
    for _, field in ipairs(redis.call('HKEYS', key)) do -- of policies that are long gone
      if string.find(field, ':', 1, true) then redis.call('HDEL', key, field) end
    end
  end
  return unpack(counts)
end
