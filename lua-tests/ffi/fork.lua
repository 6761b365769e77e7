--- +ffi
-- A script that forks through the ffi, with compiled loops in the parent: children and parent go on, and nobody's
-- compiled code changes under anybody.
local ffi = require "ffi"
ffi.cdef [[
  int fork(void);
  int waitpid(int pid, int *status, int options);
  void _exit(int status);
]]

local function work(n)
  local s = 0
  for i = 1, n do s = s + i % 7 end
  return s
end

local want = work(20000)
local children = {}
for c = 1, 3 do
  local pid = ffi.C.fork()
  if pid == 0 then
    local ok = work(20000) == want
    -- A loop that the parent has never seen.
    local t, sum = {}, 0
    for j = 1, 5000 do t[j] = j * c end
    for j = 1, #t do sum = sum + t[j] end
    ok = ok and sum == c * 5000 * 5001 / 2
    ffi.C._exit(ok and 0 or 1)
  end
  children[c] = pid
end

-- The parent compiles something new while the children run.
local x = 0
for i = 1, 20000 do x = (x * 3 + i) % 1009 end
local again = work(20000) == want

local status = ffi.new("int[1]")
for c, pid in ipairs(children) do
  print("child", c, ffi.C.waitpid(pid, status, 0) == pid, status[0])
end
print("parent", again, x)
