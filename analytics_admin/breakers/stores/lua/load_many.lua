-- Reads records. Needs record.lua, history.lua and publish.lua.
-- KEYS: sequence; records; moves and periods of the first ones, of which the activity is read too.
-- ARGV: number of records.
local answer, number = {now, read_sequence(KEYS[1])}, tonumber(ARGV[1])
for i = 1, number do
  local row, at = read(KEYS[i + 1]), number + 2 * i
  row[3] = false
  if KEYS[at] then
    row[3] = {rows(KEYS[at], 0)[1] or '', pairs_of(KEYS[at + 1], 10 * MAX_PERIODS_STORED)}
  end
  answer[i + 2] = row
end
return answer
