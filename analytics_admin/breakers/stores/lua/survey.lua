-- Lists the names in use and reads some records. Needs record.lua, retirement.lua, activity.lua.
-- KEYS: index, hash of the breakers that are not closed, records.
-- ARGV: seconds for which an unused name is kept or ""; up to how many names all are read; head and
-- tail of a record's key; of how many of the records the activity is read too (of all that are read
-- if all are; -1: of none); the records' names.
local names = redis.call('ZRANGEBYSCORE', KEYS[1], oldest, '+inf')
if oldest ~= '-inf' then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])) do
    if is_held(name) then names[#names + 1] = name end
  end
end
local reads_all = #names <= tonumber(ARGV[2])
local head, tail, active = ARGV[3], ARGV[4], tonumber(ARGV[5])
local rows, asked = {}, {}
for i = 3, #KEYS do
  local name, key = ARGV[i + 3], KEYS[i]
  local is_active = i - 2 <= active or reads_all and active >= 0
  rows[i - 2] = {name, read(key), is_active and activity(key)}
  asked[name] = true
end
if reads_all then
  for _, name in ipairs(names) do
    local key = head .. name .. tail
    if not asked[name] then rows[#rows + 1] = {name, read(key), active >= 0 and activity(key)} end
  end
end
return {now, names, redis.call('HGETALL', KEYS[2]), rows}
