-- Counts results and reads the records. Needs record.lua and windows.lua.
-- KEYS: records, index.
-- ARGV per record: its name if it is to be marked as used, its policy, rejected calls, note of a
-- failure or "", generation, "time" or "count" or "", window size, newest success, slow successes,
-- failures, slow failures, number of batches; per batch: second, quick successes.
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
  local period = second - second % PERIOD_SECONDS
  local before = redis.call('HGET', key, period)
  if before then
    local c0, f0, o0, r0 = string.match(before, '(%d+) (%d+) (%d+) (%d+)')
    c, f, o, r = c + c0, f + f0, o + o0, r + r0
  end
  redis.call('HSET', key, period, string.format('%d %d %d %d', c, f, o, r))
  if before then return end
  redis.call('EXPIRE', key, PERIODS_TTL_SECONDS)
  if redis.call('HLEN', key) > MAX_PERIODS_STORED then
    for _, at in ipairs(redis.call('HKEYS', key)) do
      if tonumber(at) <= period - PERIODS_SECONDS then redis.call('HDEL', key, at) end
    end
  end
end

local function keep_failure(key, note)
  key = key .. ':failures'
  redis.call('LPUSH', key, now .. ' ' .. note)
  redis.call('LTRIM', key, 0, LAST_FAILURE)
  redis.call('EXPIRE', key, RETENTION_SECONDS)
end

local function hear(key, policy)
  key = key .. ':policies'
  redis.call('HSET', key, policy, second)
  redis.call('EXPIRE', key, RETENTION_SECONDS)
  if redis.call('HLEN', key) <= MAX_POLICIES then return end
  local oldest, at = nil, second + 1
  local told = redis.call('HGETALL', key)
  for i = 1, #told, 2 do
    if tonumber(told[i + 1]) < at then oldest, at = told[i], tonumber(told[i + 1]) end
  end
  if oldest then redis.call('HDEL', key, oldest) end
end

local answer = {now}
local index = KEYS[#KEYS]
for i = 1, #KEYS - 1 do
  local key = KEYS[i]
  local name, policy, rejected, note = take(), take(), number(), take()
  local generation, kind, size, newest = take(), take(), number(), number()
  local slow_successes, failures, slow_failures, batches = number(), number(), number(), number()
  local cells, successes = {}, slow_successes
  for _ = 1, batches do
    local cell = {number(), number(), 0, 0}
    successes = successes + cell[2]
    cells[#cells + 1] = cell
  end
  if slow_successes > 0 then
    cells[#cells + 1] = {second, slow_successes, 0, slow_successes}
  end
  if failures > 0 then cells[#cells + 1] = {second, failures, failures, 0} end
  if slow_failures > 0 then
    cells[#cells + 1] = {second, slow_failures, slow_failures, slow_failures}
  end
  local record = read(key)
  local told = #cells > 0 and record[1] == generation and generation ~= ''
    and record[12] ~= 'disabled' and record[12] ~= 'forced_open'
  if not told then cells = {} end
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
