-- A breaker's history, for operators. Needs record.lua. Another type under one of its keys makes
-- way at the next write; what is too large is left out, or dropped.
local function tally(key, c, f, o, r)
  local period = second - second % PERIOD_SECONDS
  local before = replace('HGET', key, period)
  local c0, f0, o0, r0 = string.match(before or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if c0 and #before < 64 then c, f, o, r = c + c0, f + f0, o + o0, r + r0 end
  redis.call('HSET', key, period, string.format('%d %d %d %d', c, f, o, r))
  if before then return end
  redis.call('EXPIRE', key, PERIODS_TTL_SECONDS)
  local stored = redis.call('HLEN', key)
  if stored > 10 * MAX_PERIODS_STORED then
    redis.call('UNLINK', key)
  elseif stored > MAX_PERIODS_STORED then
    for _, at in ipairs(redis.call('HKEYS', key)) do
      if (tonumber(at) or 0) <= period - PERIODS_SECONDS then redis.call('HDEL', key, at) end
    end
  end
end

local function keep(key, row, last)
  if replace('LPUSH', key, row) > last + 1 then redis.call('LTRIM', key, 0, last) end
  redis.call('EXPIRE', key, RETENTION_SECONDS)
end

local function keep_policy(key, policy)
  replace('HSET', key, policy, second)
  redis.call('EXPIRE', key, RETENTION_SECONDS)
  local stored = redis.call('HLEN', key)
  if stored > 10 * MAX_POLICIES then
    redis.call('UNLINK', key)
    redis.call('HSET', key, policy, second)
  elseif stored > MAX_POLICIES then
    local oldest, at = nil, second + 1
    local policies = redis.call('HGETALL', key)
    for i = 1, #policies, 2 do
      local reported = tonumber(policies[i + 1]) or 0
      if reported < at then oldest, at = policies[i], reported end
    end
    if oldest then redis.call('HDEL', key, oldest) end
  end
end

-- Returns the newest rows of a list that are not too large.
local function rows(key, last)
  local kept = {}
  for _, row in ipairs(attempt('LRANGE', key, 0, last) or {}) do
    if #row <= MAX_ROW_BYTES then kept[#kept + 1] = row end
  end
  return kept
end

-- Returns a hash as a list of fields and values, without those that are too large.
local function pairs_of(key, most)
  local kept = {}
  local stored_pairs = attempt('HLEN', key)
  if not stored_pairs or stored_pairs > most then return kept end
  local stored = redis.call('HGETALL', key)
  for i = 1, #stored, 2 do
    if #stored[i] <= MAX_ROW_BYTES and #stored[i + 1] <= 64 then
      kept[#kept + 1], kept[#kept + 2] = stored[i], stored[i + 1]
    end
  end
  return kept
end
