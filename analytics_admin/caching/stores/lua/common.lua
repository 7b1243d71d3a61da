-- What claim, fill and put share. Their KEYS: the record, the value, its lease, then its tags.
-- A lease is "fence deadline stamp": the fence stays when another caller takes over, and goes with
-- the lease when a value is set or deleted.

local function accepted_tokens(raw)
  if not raw then return nil end
  local ok, record = pcall(cjson.decode, raw)
  if ok and type(record) == 'table' and type(record.accepted) == 'table'
      and type(record.accepted[1]) == 'string' then
    return record.accepted
  end
end

local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function set(key, value, ms)
  if tonumber(ms) > 0 then
    redis.call('SET', key, value, 'PX', ms)
  else
    redis.call('SET', key, value)
  end
end

-- The tokens as they are from now on; those that are missing or damaged are drawn.
local function draw(seen, fresh_record, damaged, tags_ms, tag_tokens)
  local accepted = seen[1] ~= damaged and accepted_tokens(seen[1])
  if not accepted then
    redis.call('SET', KEYS[1], fresh_record)
    accepted = accepted_tokens(fresh_record)
  end
  local tail = ''
  for i = 4, #KEYS do
    local token = seen[i]
    if not token then
      token = tag_tokens[i - 3]
      set(KEYS[i], token, tags_ms)
    elseif tonumber(tags_ms) == 0 then
      redis.call('PERSIST', KEYS[i])
    else
      local left = redis.call('PTTL', KEYS[i])
      if left >= 0 and left < tonumber(tags_ms) then redis.call('PEXPIRE', KEYS[i], tags_ms) end
    end
    tail = tail .. ',' .. token
  end
  return accepted, tail
end

local function is_one_of(stamp, accepted, tail)
  for _, token in ipairs(accepted) do
    if token .. tail == stamp then return true end
  end
  return false
end

local function head(stamp, now, fresh_ms, computed_ms)
  local fresh_until = tonumber(fresh_ms) > 0 and now + fresh_ms or 0
  return stamp .. ' ' .. string.format('%.0f %.0f', now, fresh_until)
    .. ' ' .. computed_ms .. string.char(10)
end
