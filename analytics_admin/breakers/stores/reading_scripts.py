"""The Redis store's scripts that only read, for operators' eyes: many breakers, or one in full.

The layout of what they read is told in ``scripts``.
"""

from analytics_admin.breakers.policy import TIME_BASED, BreakerPolicy
from analytics_admin.breakers.stores.index_scripts import RETIRED
from analytics_admin.breakers.stores.redis_scripts import NOW
from analytics_admin.breakers.stores.window_scripts import WINDOWS

# A key that holds something else tells of no activity, rather than keep the list from being read.
_ACTIVITY = """
local function activity(key)
  local move = redis.pcall('LINDEX', key .. ':moves', 0)
  local history = redis.pcall('HGETALL', key .. ':history')
  return {type(move) == 'string' and move or '', history.err and '' or table.concat(history, ' ')}
end
"""

# Keys: records. Of how many of them, the first ones, the activity is wanted too.
LOOK = f"""{NOW}{_ACTIVITY}
local answer = {{now}}
for i, key in ipairs(KEYS) do
  answer[i + 1] = {{read(key), i <= tonumber(ARGV[1]) and activity(key)}}
end
return answer
"""

# Keys: records. Each is followed by its transitions.
READ_TRANSITIONS = f"""{NOW}
local answer = {{now}}
for i, key in ipairs(KEYS) do
  local moves = redis.pcall('LRANGE', key .. ':moves', 0, -1)
  answer[i + 1] = {{read(key), moves.err and {{}} or moves}}
end
return answer
"""

# Keys: index, those astir, records. Seconds for which an unused name is kept or "", how many names
# at most are all read, head and tail of a record's key, of how many of the records the activity is
# wanted too (of all that are read if all are; -1: of none), the records' names.
SURVEY = f"""{NOW}{RETIRED}{_ACTIVITY}
local names = redis.call('ZRANGEBYSCORE', KEYS[1], oldest, '+inf')
if oldest ~= '-inf' then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])) do
    if is_held(name) then names[#names + 1] = name end
  end
end
local reads_all = #names <= tonumber(ARGV[2])
local head, tail, active = ARGV[3], ARGV[4], tonumber(ARGV[5])
local rows, asked = {{}}, {{}}
for i = 3, #KEYS do
  local name, key = ARGV[i + 3], KEYS[i]
  local is_active = i - 2 <= active or reads_all and active >= 0
  rows[i - 2] = {{name, read(key), is_active and activity(key)}}
  asked[name] = true
end
if reads_all then
  for _, name in ipairs(names) do
    local key = head .. name .. tail
    if not asked[name] then rows[#rows + 1] = {{name, read(key), active >= 0 and activity(key)}} end
  end
end
return {{now, names, redis.call('HGETALL', KEYS[2]), rows}}
"""

# Keys: record, index. Name; "time" or "count" and the size of a window to be read, or "" and 0.
# Beside it the windows of the policies that were told are read: what differs from the defaults.
INSPECT = f"""{NOW}{WINDOWS}
local key = KEYS[1]
local record = read(key)
local policies = redis.call('HGETALL', key .. ':policies')
local windows = {{}}
local function sum_up(kind, size)
  if size and record[1] and record[1] ~= '' then
    local window = key .. ':' .. kind .. ':' .. size
    windows[#windows + 1] = {{kind, size, window_counts(window, kind, size, record[1], {{}})}}
  end
end
if ARGV[2] ~= '' then sum_up(ARGV[2], tonumber(ARGV[3])) end
for i = 1, #policies, 2 do
  local is_read, policy = pcall(cjson.decode, policies[i])
  if is_read and type(policy) == 'table' then
    local kind = policy.sliding_window_type == '{TIME_BASED}' and 'time' or 'count'
    sum_up(kind, tonumber(policy.sliding_window_size or {BreakerPolicy().sliding_window_size}))
  end
end
return {{now, record, redis.call('ZSCORE', KEYS[2], ARGV[1]),
  redis.call('LRANGE', key .. ':moves', 0, -1), redis.call('LRANGE', key .. ':failures', 0, -1),
  redis.call('HGETALL', key .. ':history'), policies, windows}}
"""
