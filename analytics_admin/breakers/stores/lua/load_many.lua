-- Reads records. Needs record.lua and history.lua.
-- KEYS: records; moves and periods of the first ones, of which the activity is read too.
-- ARGV: number of records.
local answer, number = {now}, tonumber(ARGV[1])
for i = 1, number do
  local row, at = read(KEYS[i]), number + 2 * i - 1
  row[3] = false
  if KEYS[at] then
    row[3] = {rows(KEYS[at], 0)[1] or '', pairs_of(KEYS[at + 1], 10 * MAX_PERIODS_STORED)}
  end
  answer[i + 1] = row
end
return answer
