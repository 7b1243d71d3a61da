-- Counts results and reads the records. Needs record.lua, probers.lua, windows.lua, history.lua,
-- totals.lua, publish.lua and once.lua.
-- KEYS: index, sequence, processes; per report: record, periods if it has results, failures if it has
-- notes, policies if it has a policy, totals if calls were rejected; the sender's own, see once.lua.
-- ARGV: JSON; channel; number, see once.lua. The JSON is a list of windows and a list of reports.
-- A window: field, failure rate and slow call rate (0: not judged), calls needed to judge them.
-- A report: a list of
--   place of its window, or 0
--   generation, or 0 without results
--   time of the newest success, or 0
--   number of quick successes
--   for a time window, second and number of those in each second, else 0
--   the rest, if there is more: slow (successes), failures, slow_failures, ended_failures, failed_at,
--   rejected, notes; question: all processes are to be asked once the run is as long; used: the name
--   is to be marked as used; policy; prober: this process, where the breaker may be half-open
-- A question goes to all processes, too, when a rate of what was told comes close to its limit, and
-- when it reaches it. The answer says what became of it: 0 there was none, 1 perhaps not all processes
-- that are present hear it, 2 all do, 3 no other process is present. Then, in how many milliseconds the
-- process that is farthest from the store is answered.
local NOTHING = {}
local clock = tonumber(now)
local plain = {slow = 0, failures = 0, slow_failures = 0}
local windows, reports = unpack(cjson.decode(ARGV[1]))
local questions = {}

-- Returns whole microseconds since a generation began.
local function since(began, at)
  return math.max(0, math.floor((math.min(at, clock) - began) * 1e6 + 0.5))
end

-- Counts the consecutive failures as `count_run` in state_machine.py does, which says why.
local function count_run(record, results, newest_success, failed)
  local began, last_failure = tonumber(record.e), tonumber(record.l)
  if last_failure > clock then last_failure, record.t = 0, '0' end -- the clock was set back
  local success, times, kept = nil, {}, 0
  for at in string.gmatch(record.t, '%d+') do
    at = tonumber(at)
    if success then kept, times[#times + 1] = kept + 1, at else success = at end
  end
  if newest_success > 0 then success = math.max(success, since(began, newest_success)) end
  local run, earlier = {}, record.r - kept
  for _, at in ipairs(times) do
    if at >= success then run[#run + 1] = at end
  end
  if #run < kept or newest_success > last_failure then earlier = 0 end
  local own = results.failed_at or NOTHING
  if failed > 0 then
    record.l = string.format('%.6f', math.max(last_failure, math.min(own[#own] or clock, clock)))
  end
  failed = failed - (results.ended_failures or 0)
  local known = math.min(#own, failed)
  if #own == 0 then known = math.min(failed, RUN_TIMES) end
  earlier = earlier + failed - known
  for i = 1, known do
    local at = since(began, own[#own - known + i] or clock)
    if at >= success then run[#run + 1] = at end
  end
  table.sort(run)
  record.r = earlier + #run
  while #run > RUN_TIMES do table.remove(run, RUN_TIMES / 2 + 1) end
  table.insert(run, 1, success)
  for i, at in ipairs(run) do run[i] = string.format('%d', at) end
  record.t = table.concat(run, ',')
end

-- Returns the record with so many more quick successes; nil where there is more to be done.
local function with_successes(record, generation, newest, quick)
  local g, s, e, w, a, p, r, l, c, f, o, k, t = string.match(record, RECORD)
  if r ~= '0' or g ~= generation or k == 'disabled' or k == 'forced_open' or tonumber(l) > clock
    or math.max(#a, #p, #c, #f, #o) > 14 or #l > 20 or #t > 15 or string.find(t, ',', 1, true) then
    return nil
  end
  local success = tonumber(t)
  if newest > 0 then success = math.max(success, since(tonumber(e), newest)) end
  return string.format('%s %s %s %s %s %s 0 %s %d %s %s %s %d', g, s, e, w, a, p, l, c + quick, f, o,
    k, success)
end

-- Returns 2 where a rate is at its limit, 1 where it may soon be, else 0, as `closeness`
-- in state_machine.py does.
local function closeness(window, c, f, o)
  local close = 0
  for i, hits in ipairs({f, o}) do
    local limit = window[i + 1]
    if limit > 0 and hits > 0 then
      if c >= window[4] and 100 * hits / c >= limit then return 2 end
      if 100 * hits >= CLOSE_SHARE * limit * math.max(c, window[4]) then close = 1 end
    end
  end
  return close
end

-- Notes a question if a rate has come close to its limit now, or has reached it.
local function ask_about_rates(key, window, record, sums, c, f, o)
  local close = closeness(window, c, f, o)
  if close == 0 then return end
  local c0, f0, o0 = string.match(sums or '', shape_of(window[1]).is_timed
    and '^%d+ (%d+) (%d+) (%d+)' or '^(%d+) (%d+) (%d+)')
  if c0 and closeness(window, tonumber(c0), tonumber(f0), tonumber(o0)) >= close then return end
  local it = decode(record)
  if it and it.s == 'closed' and (it.k == '-' or it.k == 'metrics_only' and it.p == 0) then
    questions[key] = true
  end
end

-- Returns the record with the results counted, and the results for its window; nil if they do not
-- count.
local function with_results(keys, row, report, rest)
  local newest, quick, record = report[3], report[4], row[1]
  if not rest then
    local counted = with_successes(record, report[2], newest, quick)
    if counted then
      tally(keys.periods, quick, 0, 0, 0)
      return counted, plain
    end
  end
  local results = rest or plain
  local it, failed = decode(record), results.failures + results.slow_failures
  local calls, slow = quick + results.slow + failed, results.slow + results.slow_failures
  local rejected = results.rejected or 0
  if rejected > 0 then add_rejected(keys.totals, rejected) end
  if not it or it.g ~= report[2] or calls == 0 or it.k == 'disabled' or it.k == 'forced_open' then
    if rejected > 0 then tally(keys.periods, 0, 0, 0, rejected) end
    return nil
  end
  local before = it.r
  count_run(it, results, quick + results.slow > 0 and newest or 0, failed)
  local question = results.question
  if question and before < question and it.r >= question then questions[keys.record] = true end
  it.c, it.f, it.o = it.c + calls, it.f + failed, it.o + slow
  if results.prober and it.s == 'half_open' then note_permits(keys.record, results.prober, -calls) end
  tally(keys.periods, calls, failed, slow, rejected)
  for _, note in ipairs(failed > 0 and results.notes or NOTHING) do
    keep(keys.failures, now .. ' ' .. note, LAST_FAILURE)
  end
  return encode(it), results
end

-- Returns whether a process is no longer there; nil if that cannot be known.
local function is_gone(id)
  local entry = attempt('HGET', KEYS[3], id)
  if entry == nil then return nil end
  local seen_at = tonumber(string.match(entry or '', '^%d+%.%d+') or '')
  return not seen_at or math.abs(clock - seen_at) >= FORGIVEN_SECONDS
end

-- Returns the record without the permits of processes that are gone. Only a process that is there
-- itself can tell: else the list of processes is lost.
local function forgiven(key, record, own)
  local it = decode(record)
  if not it or it.s ~= 'half_open' or it.p <= it.c then return record end
  local held, permits = read_probers(key), 0
  for id, number in pairs(held) do
    if id ~= own and is_gone(id) then
      permits, held[id] = permits + number, nil
    end
  end
  if permits == 0 or is_gone(own) ~= false then return record end
  write_probers(key, held)
  it.p = math.max(it.c, it.p - permits)
  record = encode(it)
  redis.call('HSET', key, 'record', record)
  return record
end

local function count(keys, report)
  local window, rest, has_results = windows[report[1]], report[6], report[2] and report[2] ~= 0
  local row, field
  if window then
    field = window[1]
    if has_results then
      row = read(keys.record, field, shape_of(field).buckets)
    else
      row = read(keys.record, field)
    end
  else
    row = read(keys.record)
  end
  if row[1] and rest and rest.prober then row[1] = forgiven(keys.record, row[1], rest.prober) end
  local record, results, changes = row[1], nil, {}
  if has_results and record then
    if rest then
      rest.slow, rest.failures = rest.slow or 0, rest.failures or 0
      rest.slow_failures = rest.slow_failures or 0
    end
    local counted
    counted, results = with_results(keys, row, report, rest)
    if counted then
      results.quick, results.seconds = report[4], report[5] ~= 0 and report[5] or nil
      record, changes[1], changes[2] = counted, 'record', counted
    end
  end
  local c, f, o
  if window and record and record ~= 'damaged' then
    c, f, o = window_counts(keys.record, field, row[3], row[4], results, changes)
    if f + o > 0 then ask_about_rates(keys.record, window, record, row[3], c, f, o) end
  end
  if changes[1] then redis.call('HSET', keys.record, unpack(changes)) end
  if rest and rest.used and record then
    attempt('ZADD', KEYS[1], second, string.sub(keys.record, #KEYS[1] + 3))
    if keys.policies then keep_policy(keys.policies, rest.policy) end
  end
  return {record, row[2], c, f, o}
end

-- Asks all processes for their successes; returns what became of the question.
local function ask()
  local names = {}
  for key in pairs(questions) do names[#names + 1] = {string.sub(key, #KEYS[1] + 3)} end
  if #names == 0 then return 0 end
  local heard = redis.pcall('PUBLISH', ARGV[2], cjson.encode({'?', now, names}))
  if type(heard) ~= 'number' then heard = 0 end -- a user may lack the right to
  local present = attempt('HLEN', KEYS[3]) or 0 -- and when they were last counted
  if heard <= 1 and (present == 1 or present == 2) then return 3 end
  return heard > 0 and present > 0 and heard >= present - 1 and 2 or 1
end

local function read_slowest()
  local swept = redis.pcall('HGET', KEYS[3], 'swept')
  return type(swept) == 'string' and tonumber(string.match(swept, '^%S+ (%d%d?%d?%d?)$')) or 0
end

local at = 3
local function next_key()
  at = at + 1
  return KEYS[at]
end

local is_known = done_before()
if not is_known then note_done('') end

local answer, keys = {now, read_sequence(KEYS[2]), 0, read_slowest()}, {}
for i, report in ipairs(reports) do
  local rest = report[6] or NOTHING
  keys.record = next_key()
  keys.periods = report[2] and report[2] ~= 0 and next_key() or nil
  keys.failures = rest.notes and next_key() or nil
  keys.policies = rest.policy and next_key() or nil
  keys.totals = rest.rejected and next_key() or nil
  if is_known then report[2] = 0 end
  answer[i + 4] = guarded(count, keys, report) or {'damaged', false}
end
answer[3] = ask()
return answer
