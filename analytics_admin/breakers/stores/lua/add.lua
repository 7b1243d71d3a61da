-- Counts results and reads the records. Needs record.lua, windows.lua, history.lua, sequence.lua and
-- once.lua.
-- KEYS: index, sequence, processes; per report: record, periods if it has results, failures if it has
-- notes, policies if it has a policy; the sender's own, see once.lua.
-- ARGV: a list of reports as JSON, each 0 or an object: window; name, which is then marked as used;
-- policy; notes; generation; question {name, number of failures}: to be put to all processes once the
-- run is as long; results {successes [second, number], newest_success_at, slow_successes, failures,
-- slow_failures, ended_failures, failed_at, rejected}; channel; number, see once.lua.
-- The answer says whether a question was heard by all processes that are present.
local NOTHING = {}
local NO_CELLS = {}
local questions = {}

-- Returns the results as cells of a window, and how many of them are successes and failures.
local function cells_of(results)
  local slow, failures = results.slow_successes or 0, results.failures or 0
  local slow_failures = results.slow_failures or 0
  local cells, successes = {}, slow
  for i, batch in ipairs(results.successes or NOTHING) do
    cells[i] = {batch[1], batch[2], 0, 0}
    successes = successes + batch[2]
  end
  if slow > 0 then cells[#cells + 1] = {second, slow, 0, slow} end
  if failures > 0 then cells[#cells + 1] = {second, failures, failures, 0} end
  if slow_failures > 0 then
    cells[#cells + 1] = {second, slow_failures, slow_failures, slow_failures}
  end
  return cells, successes, failures + slow_failures, slow + slow_failures
end

-- Counts the consecutive failures as `count_run` in state_machine.py does, which says why.
local function count_run(record, results, successes, failed)
  local began, last_failure = tonumber(record.e), tonumber(record.l)
  if last_failure > tonumber(now) then last_failure, record.t = 0, '0' end -- the clock was set back
  local function since(at) -- whole microseconds
    return math.max(0, math.floor((math.min(at, now) - began) * 1e6 + 0.5))
  end
  local success, times, kept = nil, {}, 0
  for at in string.gmatch(record.t, '%d+') do
    at = tonumber(at)
    if success then kept, times[#times + 1] = kept + 1, at else success = at end
  end
  local newest_success = successes > 0 and results.newest_success_at or 0
  if newest_success > 0 then success = math.max(success, since(newest_success)) end
  local run, earlier = {}, record.r - kept
  for _, at in ipairs(times) do
    if at >= success then run[#run + 1] = at end
  end
  if #run < kept or newest_success > last_failure then earlier = 0 end
  failed = failed - (results.ended_failures or 0)
  local own = results.failed_at or NOTHING
  local known = math.min(#own, failed)
  if #own == 0 then known = math.min(failed, RUN_TIMES) end
  earlier = earlier + failed - known
  for i = 1, known do
    local at = since(own[#own - known + i] or now)
    if at >= success then run[#run + 1] = at end
  end
  table.sort(run)
  record.r = earlier + #run
  while #run > RUN_TIMES do table.remove(run, RUN_TIMES / 2 + 1) end
  record.t = table.concat({success, unpack(run)}, ',')
  local newest = own[#own] or now
  if (results.failures or 0) + (results.slow_failures or 0) > 0 then
    record.l = string.format('%.6f', math.max(last_failure, math.min(newest, now)))
  end
end

local function count(keys, report)
  local results, window = report.results, report.window
  local row = window and read(keys.record, window) or read(keys.record)
  local record = row[1] and results and decode(row[1])
  local changes, cells = {}, NO_CELLS
  if results and row[1] then
    local found, successes, failed, slow = cells_of(results)
    if record and record.g == report.generation and successes + failed > 0
      and record.k ~= 'disabled' and record.k ~= 'forced_open' then
      cells = found
      local before, question = record.r, report.question
      count_run(record, results, successes, failed)
      if question and before < question[2] and record.r >= question[2] then
        questions[#questions + 1] = {question[1]}
      end
      record.c, record.f, record.o = record.c + successes + failed, record.f + failed, record.o + slow
      row[1] = encode(record)
      changes = {'record', row[1]}
      tally(keys.periods, successes + failed, failed, slow, results.rejected or 0)
      for _, note in ipairs(failed > 0 and report.notes or NOTHING) do
        keep(keys.failures, now .. ' ' .. note, LAST_FAILURE)
      end
    elseif (results.rejected or 0) > 0 then
      tally(keys.periods, 0, 0, 0, results.rejected)
    end
  end
  local answer = {row[1], row[2]}
  if window and row[1] and row[1] ~= 'damaged' then
    answer[3], answer[4], answer[5] = window_counts(keys.record, window, row[3], cells, changes)
  end
  if #changes > 0 then redis.call('HSET', keys.record, unpack(changes)) end
  if report.name and row[1] then
    attempt('ZADD', KEYS[1], second, report.name)
    if keys.policies then keep_policy(keys.policies, report.policy) end
  end
  return answer
end

-- Asks all processes for their successes; returns whether all those present hear it.
local function ask()
  local message = cjson.encode({'?', now, questions})
  local heard = redis.pcall('PUBLISH', ARGV[2], message) -- a user may lack the right to
  local present = attempt('HLEN', KEYS[3]) -- and when they were last counted
  return type(heard) == 'number' and heard > 0 and present and heard >= present - 1
end

local at = 3
local function next_key()
  at = at + 1
  return KEYS[at]
end

local is_known = done_before()
if not is_known then note_done('') end

local answer = {now, read_sequence(KEYS[2]), 0}
for i, report in ipairs(cjson.decode(ARGV[1])) do
  if report == 0 then report = NOTHING end
  local keys = {record = next_key()}
  if report.results then keys.periods = next_key() end
  if report.notes then keys.failures = next_key() end
  if report.policy then keys.policies = next_key() end
  if is_known then report.results = nil end
  answer[i + 3] = guarded(count, keys, report) or {'damaged', false}
end
if #questions > 0 and ask() then answer[3] = 1 end
return answer
