-- Which server this is, and whether its data have gone on without a break. Needs record.lua.
-- Returns what a restart and a failover change; "" where the user may not ask.
local function server()
  local run, history = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  if type(run) ~= 'string' or type(history) ~= 'string' then return '' end
  run, history = string.match(run, 'run_id:(%w+)'), string.match(history, 'master_replid:(%w+)')
  return run and history and run .. '.' .. history or ''
end

-- Returns the server whose data were compared last and since when it is known, and for which server a
-- process was last asked to compare, and when.
local function read_compared(key)
  local compared, since, asked, asked_at =
    string.match(replace('GET', key) or '', '^(%S+) (%d+) (%S+) (%d+)$')
  return compared or '-', tonumber(since or '0'), asked or '-', tonumber(asked_at or '0')
end
