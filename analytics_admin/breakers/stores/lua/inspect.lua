-- Reads all that is kept of one breaker. Needs record.lua and windows.lua.
-- KEYS: record, index.
-- ARGV: name; "time" or "count" and the size of a window, or "" and 0.
-- The windows of the stored policies, which hold what differs from the defaults, are read too.
local key = KEYS[1]
local record = read(key)
local policies = redis.call('HGETALL', key .. ':policies')
local windows = {}
local function sum_up(kind, size)
  if size and record[1] and record[1] ~= '' then
    local window = key .. ':' .. kind .. ':' .. size
    windows[#windows + 1] = {kind, size, window_counts(window, kind, size, record[1], {})}
  end
end
if ARGV[2] ~= '' then sum_up(ARGV[2], tonumber(ARGV[3])) end
for i = 1, #policies, 2 do
  local is_read, policy = pcall(cjson.decode, policies[i])
  if is_read and type(policy) == 'table' then
    local kind = policy.sliding_window_type == 'TIME_BASED' and 'time' or 'count'
    sum_up(kind, tonumber(policy.sliding_window_size or DEFAULT_WINDOW_SIZE))
  end
end
return {now, record, redis.call('ZSCORE', KEYS[2], ARGV[1]),
  redis.call('LRANGE', key .. ':moves', 0, -1), redis.call('LRANGE', key .. ':failures', 0, -1),
  redis.call('HGETALL', key .. ':history'), policies, windows}
