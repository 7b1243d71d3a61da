-- KEYS: the record, then keys of one kind. ARGV: the kind, 1 to remove those that are needed no
-- more. Returns how many these are. A key's first 64 bytes hold its token.
local record = redis.pcall('GET', KEYS[1])
local known, accepted, servable = pcall(cjson.decode, type(record) == 'string' and record or '')
local tokens = {}
if known and type(accepted) == 'table' then
  servable = type(accepted.servable_until) == 'table' and accepted.servable_until or {}
  local now = redis.call('TIME')
  now = now[1] + now[2] / 1000000
  for token, till in pairs(servable) do tokens[token] = type(till) == 'number' and till > now end
  if type(accepted.accepted) == 'table' then
    for _, token in ipairs(accepted.accepted) do tokens[token] = true end
  end
end
local function is_needed(head)
  if ARGV[1] == 'tag' then return #head == 12 and not string.find(head, '[^%w_-]') end
  local form = ARGV[1] == 'value' and '^([^%s,]+)[ ,]' or '^%S+ [%d.]+ ([^%s,]+)'
  return tokens[string.match(head, form) or ''] == true
end
local outdated = {}
for i = 2, #KEYS do
  local head = redis.pcall('GETRANGE', KEYS[i], 0, 63)
  if not is_needed(type(head) == 'string' and head or '') then
    outdated[#outdated + 1] = KEYS[i]
  end
end
if #outdated == 0 then return 0 end
return redis.call(ARGV[2] == '1' and 'UNLINK' or 'EXISTS', unpack(outdated))
