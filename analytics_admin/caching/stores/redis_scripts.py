"""The scripts that the store runs, each at one instant. Values are made and judged elsewhere.

KEYS are the record, the value, its lease, then its tags. A lease is ``fence deadline stamp``: the
fence stays when another caller takes over, and goes with the lease when a value is set or deleted.
"""

_COMMON = """
local function accepted_tokens(raw)
  if not raw then return nil end
  local ok, record = pcall(cjson.decode, raw)
  if ok and type(record) == 'table' and type(record.accepted) == 'table'
      and type(record.accepted[1]) == 'string' then
    return record.accepted
  end
end

local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function set(key, value, ms)
  if tonumber(ms) > 0 then
    redis.call('SET', key, value, 'PX', ms)
  else
    redis.call('SET', key, value)
  end
end

-- The tokens as they are from now on; those that are missing or damaged are drawn.
local function draw(seen, fresh_record, damaged, tags_ms, tag_tokens)
  local accepted = seen[1] ~= damaged and accepted_tokens(seen[1])
  if not accepted then
    redis.call('SET', KEYS[1], fresh_record)
    accepted = accepted_tokens(fresh_record)
  end
  local tail = ''
  for i = 4, #KEYS do
    local token = seen[i]
    if not token then
      token = tag_tokens[i - 3]
      set(KEYS[i], token, tags_ms)
    elseif tonumber(tags_ms) == 0 then
      redis.call('PERSIST', KEYS[i])
    else
      local left = redis.call('PTTL', KEYS[i])
      if left >= 0 and left < tonumber(tags_ms) then redis.call('PEXPIRE', KEYS[i], tags_ms) end
    end
    tail = tail .. ',' .. token
  end
  return accepted, tail
end

local function is_one_of(stamp, accepted, tail)
  for _, token in ipairs(accepted) do
    if token .. tail == stamp then return true end
  end
  return false
end

local function head(stamp, now, fresh_ms, computed_ms)
  local fresh_until = tonumber(fresh_ms) > 0 and now + fresh_ms or 0
  return stamp .. ' ' .. string.format('%.0f %.0f', now, fresh_until)
    .. ' ' .. computed_ms .. string.char(10)
end
"""

# ARGV: fresh record, damaged record, tags' life, fence, lease ms, lease's life, tag tokens...
CLAIM = (
    _COMMON
    + """
local seen = redis.call('MGET', unpack(KEYS))
local accepted, tail = draw(seen, ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 7)})
local stamp, now = accepted[1] .. tail, now_ms()
if seen[2] then
  local carried, fresh = string.match(seen[2], '^(%S+) %d+ (%d+) ')
  if carried and is_one_of(carried, accepted, tail) and (fresh == '0' or tonumber(fresh) > now) then
    return {'fresh', now, stamp, seen[2]}
  end
end
local fence = ARGV[4]
if seen[3] then
  local held, deadline, under = string.match(seen[3], '^(%S+) (%d+) (%S+)$')
  if under == stamp then
    if held ~= fence and tonumber(deadline) > now then
      return {'held', now, stamp, deadline - now}
    end
    fence = held
  end
end
local lease = fence .. ' ' .. string.format('%.0f', now + ARGV[5]) .. ' ' .. stamp
redis.call('SET', KEYS[3], lease, 'PX', ARGV[6])
return {'granted', now, stamp, lease}
"""
)

# ARGV: the claim's lease, its stamp, fresh ms, kept ms, computed ms, value or nothing
FILL = (
    _COMMON
    + """
local seen = redis.call('MGET', KEYS[1], KEYS[3], unpack(KEYS, 4))
local now = now_ms()
local accepted, tail = accepted_tokens(seen[1]), ''
for i = 4, #KEYS do tail = tail .. ',' .. (seen[i - 1] or '') end
local fence = string.match(ARGV[1], '^%S+')
local holds = accepted and is_one_of(ARGV[2], accepted, tail)
  and seen[2] and string.match(seen[2], '^%S+') == fence
-- The value first: once a script has written, a server that is out of memory lets all else pass.
if holds and ARGV[6] then
  set(KEYS[2], head(ARGV[2], now, ARGV[3], ARGV[5]) .. ARGV[6], ARGV[4])
end
if holds or seen[2] == ARGV[1] then redis.call('DEL', KEYS[3]) end
return {holds and 1 or 0, now}
"""
)

# KEYS: the lease. ARGV: the claim's lease
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {1, 0}
"""

# ARGV: fresh record, tags' life, fresh ms, kept ms, value, tag tokens...
PUT = (
    _COMMON
    + """
local seen = redis.call('MGET', KEYS[1], KEYS[3], KEYS[3], unpack(KEYS, 4))
local accepted, tail = draw(seen, ARGV[1], '', ARGV[2], {unpack(ARGV, 6)})
local now = now_ms()
set(KEYS[2], head(accepted[1] .. tail, now, ARGV[3], '0') .. ARGV[5], ARGV[4])
redis.call('DEL', KEYS[3])
return {1, now}
"""
)

# KEYS: the value, its lease
REMOVE = """
redis.call('DEL', KEYS[2])
return redis.call('DEL', KEYS[1])
"""
