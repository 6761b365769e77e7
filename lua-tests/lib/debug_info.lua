-- getinfo, getlocal, upvalues, traceback.
local function f(a, b, ...) local c = 3 local t = debug.getinfo(1) for _, k in ipairs{"source", "short_src", "what", "currentline", "linedefined", "lastlinedefined", "name", "namewhat", "nups", "nparams", "isvararg"} do io.write(k, "=", tostring(t[k]), " ") end print(t.func == f)
  local r = {} for i = 1, 5 do r[#r + 1] = tostring((debug.getlocal(1, i))) end for i = -1, -3, -1 do local n, v = debug.getlocal(1, i) r[#r + 1] = tostring(n) .. ":" .. tostring(v) end print(table.concat(r, " "))
  print(debug.setlocal(1, 1, "new"), a, debug.setlocal(1, -1, "nv"), (...), debug.setlocal(1, 99, 0)) return c end
f(1, 2, "v1", "v2")
local t = debug.getinfo(print) print(t.what, t.short_src, t.source, t.currentline, t.linedefined, t.lastlinedefined, t.isvararg, t.nparams, t.name, t.namewhat)
print(debug.getinfo(100), pcall(debug.getinfo)) print(pcall(debug.getinfo, "x")) print(pcall(debug.getinfo, 1, "X")) print(pcall(debug.getinfo, {}))
local function lines() local x = 1

  x = 2
  return x end
local ls = {} for l in pairs(debug.getinfo(lines, "L").activelines) do ls[#ls + 1] = l end table.sort(ls) print(table.concat(ls, " "))
local up1, up2 = 1, 2 local function g() return up1, up2 end print(debug.getupvalue(g, 1)) print(debug.getupvalue(g, 2)) print(debug.getupvalue(g, 3), debug.setupvalue(g, 1, 10), up1, debug.setupvalue(g, 5, 1), debug.getupvalue(g, 0))
local function h() return up1 end print(debug.upvalueid(g, 1) == debug.upvalueid(h, 1), debug.upvalueid(g, 1) == debug.upvalueid(g, 2), pcall(debug.upvalueid, g, 5)) debug.upvaluejoin(g, 1, g, 2) print(g()) print(pcall(debug.upvaluejoin, g, 1, print, 1))
print(debug.getlocal(f, 1), debug.getlocal(f, 2), debug.getlocal(f, 3)) print(pcall(debug.getlocal, 100, 1)) print(pcall(debug.setlocal, 100, 1, 1))
local co = coroutine.create(function(x) local y = x * 2 coroutine.yield(y) error("oops") end) coroutine.resume(co, 21)
print(debug.traceback(co)) print(debug.traceback(co, "msg")) print(debug.traceback(co, "msg", 1)) print(debug.getlocal(co, 1, 1)) print(debug.getlocal(co, 1, 2)) print(debug.getinfo(co, 1, "l").currentline, debug.getinfo(co, 0, "n").name, debug.getinfo(co, 5)) print(coroutine.resume(co)) print(debug.traceback(co))
local function tb(...) return (debug.traceback(...):gsub("\n\t%[C%]: at 0x%x+", "")) end
local function l3() return (tb("deep")) end local function l2() local r = l3() return r end function global() local r = l2() return r end print(global()) local obj = {m = function(self) local r = tb("meth") return r end} print(obj:m()) print((obj.m()))
print(debug.traceback({}) ~= nil, debug.traceback(nil), type(debug.traceback()), (tb("x", 0)), (tb("x", 2)))
local function rec(n) if n == 0 then return (tb("long")) end return (rec(n - 1)) end coroutine.wrap(function() print((rec(30))) print((rec(5))) end)()
print(select(2, xpcall(function() local x = nil; x.y = 1 end, function(m) return (tb(m)) end))) print(select(2, xpcall(function() error("e") end, function(m) return (tb(m)) end)))
print(debug.getmetatable("").__index == string, debug.setmetatable(10, {__index = function(n, k) return k .. n end}), (5).foo, debug.setmetatable(10, nil), pcall(debug.setmetatable, 1, 2)) print(type(debug.getregistry()), debug.getfenv(f) == _G, debug.setfenv(f, {}) == f, pcall(debug.setfenv, 1, {})) print(debug.gethook())
