"""The Redis store's scripts: they compare and count, atomically; the rules are elsewhere.

Keys of one breaker share a hash tag. ``<record>`` is a hash:

    g generation, s state, e entered_at, w wait, a attempts, p permits granted,
    r run of failures, l last_failure_at, c calls, f failures, o slow calls,
    and under a hold: k control, u until ("" for ever), x actor, z reason

What the rates are taken over lies beside it, see ``window_scripts``.

For operators: ``<record>:moves`` is a list of transitions, ``<record>:failures`` one of failures,
both newest first, and ``<record>:history`` a hash of "calls failures slow rejected" by the second
at which each period begins; ``<record>:policies`` is a hash of policies told, by when. The index
is a sorted set of names by when they were last used; ``<index>:astir`` is a hash of the breakers
that are not simply closed, by name: the state, or the hold and when it ends.
"""

from analytics_admin.breakers.history import (
    MAX_FAILURES,
    MAX_PERIODS,
    MAX_POLICIES,
    MAX_TRANSITIONS,
    PERIOD_SECONDS,
    RETENTION_SECONDS,
)
from analytics_admin.breakers.stores.window_scripts import WINDOWS

NOW = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = string.format('%d.%06d', time[1], time[2])
-- Something else under the key reads as a row of zeros, which no record has. The rest of a hold is
-- fetched where there is one: behind the places of the window's counts.
local function read(key)
  local row = redis.pcall('HMGET', key, 'g', 's', 'e', 'w', 'a', 'p', 'r', 'l', 'c', 'f', 'o', 'k')
  if row.err then return {'', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ''} end
  if row[12] then
    local hold = redis.call('HMGET', key, 'u', 'x', 'z')
    row[13], row[14], row[15], row[16], row[17], row[18] = 0, 0, 0, hold[1], hold[2], hold[3]
  end
  return row
end
"""

# The last key is the index. Per other key: its name if it is to be marked as used and under which
# policy, rejected calls, note of a failure or "", generation, "time" or "count" or "", window size,
# newest success, slow successes, failures, slow failures, number of batches; per batch: second,
# quick successes.
ADD = f"""{NOW}{WINDOWS}
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function number()
  return tonumber(take())
end

local function tally(key, c, f, o, r)
  key = key .. ':history'
  local period = second - second % {PERIOD_SECONDS}
  local before = redis.call('HGET', key, period)
  if before then
    local c0, f0, o0, r0 = string.match(before, '(%d+) (%d+) (%d+) (%d+)')
    c, f, o, r = c + c0, f + f0, o + o0, r + r0
  end
  redis.call('HSET', key, period, string.format('%d %d %d %d', c, f, o, r))
  if before then return end
  redis.call('EXPIRE', key, {PERIOD_SECONDS * (MAX_PERIODS + 1)})
  if redis.call('HLEN', key) > {MAX_PERIODS + 10} then
    for _, at in ipairs(redis.call('HKEYS', key)) do
      if tonumber(at) <= period - {PERIOD_SECONDS * MAX_PERIODS} then redis.call('HDEL', key, at)
      end
    end
  end
end

local function keep_failure(key, note)
  key = key .. ':failures'
  redis.call('LPUSH', key, now .. ' ' .. note)
  redis.call('LTRIM', key, 0, {MAX_FAILURES - 1})
  redis.call('EXPIRE', key, {RETENTION_SECONDS})
end

local function hear(key, policy)
  key = key .. ':policies'
  redis.call('HSET', key, policy, second)
  redis.call('EXPIRE', key, {RETENTION_SECONDS})
  if redis.call('HLEN', key) <= {MAX_POLICIES} then return end
  local oldest, at = nil, second + 1
  local told = redis.call('HGETALL', key)
  for i = 1, #told, 2 do
    if tonumber(told[i + 1]) < at then oldest, at = told[i], tonumber(told[i + 1]) end
  end
  if oldest then redis.call('HDEL', key, oldest) end
end

local answer = {{now}}
local index = KEYS[#KEYS]
for i = 1, #KEYS - 1 do
  local key = KEYS[i]
  local name, policy, rejected, note = take(), take(), number(), take()
  local generation, kind, size, newest = take(), take(), number(), number()
  local slow_successes, failures, slow_failures, batches = number(), number(), number(), number()
  local cells, successes = {{}}, slow_successes
  for _ = 1, batches do
    local cell = {{number(), number(), 0, 0}}
    successes = successes + cell[2]
    cells[#cells + 1] = cell
  end
  if slow_successes > 0 then
    cells[#cells + 1] = {{second, slow_successes, 0, slow_successes}}
  end
  if failures > 0 then cells[#cells + 1] = {{second, failures, failures, 0}} end
  if slow_failures > 0 then
    cells[#cells + 1] = {{second, slow_failures, slow_failures, slow_failures}}
  end
  local record = read(key)
  local told = #cells > 0 and record[1] == generation and generation ~= ''
    and record[12] ~= 'disabled' and record[12] ~= 'forced_open'
  if not told then cells = {{}} end
  if told then
    local failed = failures + slow_failures
    local run = tonumber(record[7]) or 0
    local last_failure = tonumber(record[8]) or 0
    if last_failure > tonumber(now) then last_failure = 0 end -- the clock was set back
    if successes > 0 and newest > last_failure then run = 0 end
    record[7] = tostring(run + failed)
    redis.call('HSET', key, 'r', record[7])
    record[9] = redis.call('HINCRBY', key, 'c', successes + failed)
    if failed > 0 then
      record[8] = now
      redis.call('HSET', key, 'l', now)
      record[10] = redis.call('HINCRBY', key, 'f', failed)
    end
    if slow_successes + slow_failures > 0 then
      record[11] = redis.call('HINCRBY', key, 'o', slow_successes + slow_failures)
    end
    if note ~= '' and failed > 0 then keep_failure(key, note) end
    tally(key, successes + failed, failed, slow_successes + slow_failures, rejected)
  elseif rejected > 0 and record[1] then
    tally(key, 0, 0, 0, rejected)
  end
  if name ~= '' and record[1] then
    redis.call('ZADD', index, second, name)
    if policy ~= '' then hear(key, policy) end
  end
  if kind ~= '' and record[1] and record[1] ~= '' then
    record[13], record[14], record[15] =
      window_counts(key .. ':' .. kind .. ':' .. size, kind, size, record[1], cells)
  end
  answer[i + 1] = record
end
return answer
"""

# The last keys are the index and the hash of those astir. Per other key: expected generation,
# expected permits, new generation, state, wait, attempts, permits, cause, attempt id, actor;
# control, until, holder, reason of the hold, all "" without one; name, label before, label after,
# 1 if it ends quiet.
COMPARE_AND_SET = f"""{NOW}
local answer = {{now}}
local index, astir = KEYS[#KEYS - 1], KEYS[#KEYS]
for i = 1, #KEYS - 2 do
  local key = KEYS[i]
  local at = (i - 1) * 18
  local old = read(key)
  local won = 0
  local permits = tonumber(old[6] or 0) or 0
  if (old[1] or '') == ARGV[at + 1] and permits == tonumber(ARGV[at + 2]) then
    won = 1
    if old[1] == '' then redis.call('DEL', key) end
    if not old[1] then redis.call('ZADD', index, 'NX', second, ARGV[at + 15]) end
    if old[1] == ARGV[at + 3] then
      redis.call('HSET', key, 'p', ARGV[at + 7])
    else
      redis.call('HSET', key, 'g', ARGV[at + 3], 's', ARGV[at + 4], 'e', now, 'w', ARGV[at + 5],
        'a', ARGV[at + 6], 'p', ARGV[at + 7], 'r', 0, 'l', 0, 'c', 0, 'f', 0, 'o', 0)
      redis.call('HDEL', key, 'k', 'u', 'x', 'z')
      if ARGV[at + 11] ~= '' then
        redis.call('HSET', key, 'k', ARGV[at + 11], 'u', ARGV[at + 12], 'x', ARGV[at + 13],
          'z', ARGV[at + 14])
      end
      if ARGV[at + 18] == '1' then
        if old[2] ~= 'closed' or old[12] then redis.call('HDEL', astir, ARGV[at + 15]) end
      else
        local ends = ARGV[at + 12] ~= '' and ' ' .. ARGV[at + 12] or ''
        redis.call('HSET', astir, ARGV[at + 15], ARGV[at + 17] .. ends)
      end
    end
    if old[1] and ARGV[at + 8] ~= '' then
      redis.call('LPUSH', key .. ':moves', table.concat({{ARGV[at + 9], ARGV[at + 16],
        ARGV[at + 17], ARGV[at + 8], now, old[7] or 0, old[9] or 0, old[10] or 0, old[11] or 0,
        ARGV[at + 10]}}, ' '))
      redis.call('LTRIM', key .. ':moves', 0, {MAX_TRANSITIONS - 1})
      redis.call('EXPIRE', key .. ':moves', {RETENTION_SECONDS})
    end
  end
  answer[i + 1] = {{won, read(key)}}
end
return answer
"""
