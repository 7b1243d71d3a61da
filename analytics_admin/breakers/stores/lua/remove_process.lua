-- Forgets a process that ends. Needs record.lua.
-- KEYS: processes. ARGV: the process' id.
return attempt('HDEL', KEYS[1], ARGV[1]) or 0
