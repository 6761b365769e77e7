--- -jit
-- Line, call, return and count hooks; what they see; errors and yields in their neighbourhood.
local n=0 local ls={} debug.sethook(function(e,l) n=n+1 ls[#ls+1]=l end,"l") local x=1
local y=2
debug.sethook() print(n, debug.gethook()) print(table.concat(ls," ")) local ev={} debug.sethook(function(e) ev[#ev+1]=e end,"cr") local _=math.abs(1) debug.sethook() print(table.concat(ev," "))
local c=0 debug.sethook(function(e) c=c+1 end,"",100) for i=1,10000 do end debug.sethook() print(c)
local function f() return 1 end local function g() local x = f() return x end ev={} debug.sethook(function(e) local i=debug.getinfo(2,"nS") ev[#ev+1]=e..":"..tostring(i.name) end,"cr") g() debug.sethook() print(table.concat(ev," "))
local lines = {} debug.sethook(function(e, l) lines[#lines + 1] = l end, "l")
for i = 1, 2 do
  local a = i
end
local z
debug.sethook() print(table.concat(lines, " "))
print(pcall(function() local once = true debug.sethook(function() if once then once = false error("from hook", 0) end end, "l")
  local x = 1 end)) debug.sethook()
debug.sethook(print, "c") debug.sethook() local h, m, c2 = debug.gethook() print(h, m, c2) local function hk() end debug.sethook(hk, "crl", 7) print(select(2, debug.gethook()), select(3, debug.gethook()), debug.gethook() == hk) debug.sethook()
local co = coroutine.create(function() local a = 1
  coroutine.yield(a)
  return 2 end) lines = {} debug.sethook(function(e, l) lines[#lines + 1] = l end, "l") coroutine.resume(co) coroutine.resume(co) debug.sethook() print(#lines > 2)
local depth = 0 debug.sethook(function() depth = depth + 1 local function inner() return 1 end inner() end, "c") math.abs(-1) debug.sethook() print(depth)
