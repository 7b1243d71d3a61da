-- Counts calls in a window; a look costs the same whatever its size. Needs record.lua.
-- Two fields of the record's hash: the sums, which a look reads, and the buckets that they are of.
-- time:<seconds>          number of the newest bucket, calls, failures, slow calls; those of the
--                         newest bucket
-- count:<calls>           calls, failures, slow calls
-- ...:buckets             packed: the three numbers of each bucket; of a time window a ring of all
--                         buckets but the newest, of a count window a list, oldest first
-- The number of a bucket is its second divided by its width. `windows.py` counts the same for the
-- memory store. What is damaged raises: the window begins anew.
local function sound(number)
  if type(number) ~= 'number' or not (number >= 0 and number < 1e14) then error('damaged', 0) end
  return number
end

local function numbers_of(sums, how_many)
  local numbers = {}
  for number in string.gmatch(#sums > 120 and '' or sums, '%S+') do
    numbers[#numbers + 1] = sound(tonumber(number))
  end
  if #numbers ~= how_many then error('damaged', 0) end
  return unpack(numbers)
end

local function load_buckets(w)
  local packed = redis.call('HGET', w.key, w.field .. ':buckets')
  if not packed or #packed > MAX_BUCKETS_BYTES then error('damaged', 0) end
  w.buckets = cmsgpack.unpack(packed)
end

local function add_up(w, c, f, o)
  w.c, w.f, w.o = sound(w.c + c), sound(w.f + f), sound(w.o + o)
end

-- Time windows.

-- Returns the ring, and the place before the three numbers of a bucket.
local function find(w, bucket)
  if not w.buckets then
    if w.c == w.nc then
      w.buckets = {}
      for place = 1, 3 * w.places do w.buckets[place] = 0 end
    else
      load_buckets(w)
    end
  end
  return w.buckets, 3 * (bucket % w.places)
end

local function add_to(w, bucket, c, f, o)
  local ring, at = find(w, bucket)
  ring[at + 1], ring[at + 2], ring[at + 3] =
    sound(ring[at + 1]) + c, sound(ring[at + 2]) + f, sound(ring[at + 3]) + o
end

local function take_out(w, bucket)
  local ring, at = find(w, bucket)
  local c, f, o = sound(ring[at + 1]), sound(ring[at + 2]), sound(ring[at + 3])
  ring[at + 1], ring[at + 2], ring[at + 3] = 0, 0, 0
  return c, f, o
end

local function subtract(w, c, f, o)
  add_up(w, -c, -f, -o)
end

-- Moves on to the current second. If the clock was set back, what lies ahead of it is dropped.
local function move_on(w)
  local current = math.floor(second / w.width)
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
    w.c, w.f, w.o, w.nc, w.nf, w.no, w.buckets = 0, 0, 0, 0, 0, 0, nil
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
  local list = w.buckets
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
  local list = w.buckets
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
      places = math.ceil(size / width), current = math.floor(second / width)}
  end
  return shapes[window]
end

local function open_window(key, window, sums)
  local shape = shape_of(window)
  local w = {key = key, field = window, size = shape.size, width = shape.width, first = 1,
    is_timed = shape.is_timed, places = shape.places}
  if not sums then
    w.newest, w.c, w.f, w.o, w.nc, w.nf, w.no = 0, 0, 0, 0, 0, 0, 0
  elseif w.is_timed then
    w.newest, w.c, w.f, w.o, w.nc, w.nf, w.no = numbers_of(sums, 7)
  else
    w.c, w.f, w.o = numbers_of(sums, 3)
  end
  return w
end

local function count_in_window(key, window, sums, cells, changes)
  local w = open_window(key, window, sums)
  if w.is_timed then
    move_on(w)
    for _, cell in ipairs(cells) do add_timed(w, unpack(cell)) end
  elseif #cells > 0 then
    if w.c > 0 then load_buckets(w) else w.buckets = {} end
    for _, cell in ipairs(cells) do add_counted(w, unpack(cell, 2)) end
  end
  if w.is_changed then
    changes[#changes + 1] = window
    changes[#changes + 1] = w.is_timed
      and table.concat({w.newest, w.c, w.f, w.o, w.nc, w.nf, w.no}, ' ')
      or table.concat({w.c, w.f, w.o}, ' ')
    if w.buckets then
      changes[#changes + 1] = window .. ':buckets'
      changes[#changes + 1] = w.is_timed and w.c == w.nc and ''
        or cmsgpack.pack({unpack(w.buckets, w.first)})
    end
  end
  return {w.c, w.f, w.o}
end

-- Returns the window's sums with these cells added (second, calls, failures, slow), and adds to
-- `changes` the fields and values that are to be stored.
local function window_counts(key, window, sums, cells, changes)
  if #cells == 0 then -- most looks end here
    if not sums then return 0, 0, 0 end
    local shape = shape_of(window)
    local rest = shape.is_timed and string.match(sums, '^' .. shape.current .. ' (.*)$') or sums
    local c, f, o = string.match(rest, '^(%d+) (%d+) (%d+)')
    if c and math.max(#c, #f, #o) < 15 and (not shape.is_timed or rest ~= sums) then
      return tonumber(c), tonumber(f), tonumber(o)
    end
  end
  local counts = guarded(count_in_window, key, window, sums, cells, changes)
    or guarded(count_in_window, key, window, false, cells, changes) -- damaged: it begins anew
  if not sums and redis.call('HLEN', key) > MAX_WINDOW_FIELDS then
    for _, field in ipairs(redis.call('HKEYS', key)) do -- of policies that are long gone
      if string.find(field, ':', 1, true) then redis.call('HDEL', key, field) end
    end
  end
  return unpack(counts)
end
