-- Reads all that is kept of one breaker. Needs record.lua, windows.lua and history.lua.
-- KEYS: record, moves, failures, periods, policies, index.
-- ARGV: name; a window or "".
-- The windows of the stored policies, which hold what differs from the defaults, are read too.
local row = read(KEYS[1])
local policies = pairs_of(KEYS[5], 10 * MAX_POLICIES)
local windows = {}
local function sum_up(window)
  local sums = redis.call('HGET', KEYS[1], window)
  windows[#windows + 1] = {window, window_counts(KEYS[1], window, sums, nil, nil, {})}
end
if row[1] and decode(row[1]) then
  if ARGV[2] ~= '' then sum_up(ARGV[2]) end
  for i = 1, #policies, 2 do
    local is_read, policy = pcall(cjson.decode, policies[i])
    if is_read and type(policy) == 'table' then
      local kind = policy.sliding_window_type == 'TIME_BASED' and 'time' or 'count'
      local size = tonumber(policy.sliding_window_size or DEFAULT_WINDOW_SIZE)
      if size and size >= 1 and size <= MAX_WINDOW_SIZE then
        guarded(sum_up, string.format('%s:%d', kind, size))
      end
    end
  end
end
return {now, row, redis.call('ZSCORE', KEYS[6], ARGV[1]), rows(KEYS[2], LAST_TRANSITION),
  rows(KEYS[3], LAST_FAILURE), pairs_of(KEYS[4], 10 * MAX_PERIODS_STORED), policies, windows}
