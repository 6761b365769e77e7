-- create, resume, yield, status, wrap, running.
local co = coroutine.create(function(a, b) print("start", a, b) local c = coroutine.yield(a + b) print("got", c) local d, e = coroutine.yield(c * 2) print("got", d, e) return "done", d + e end)
print(coroutine.status(co), coroutine.resume(co, 1, 2)) print(coroutine.status(co), coroutine.resume(co, 10)) print(coroutine.resume(co, 3, 4)) print(coroutine.status(co), coroutine.resume(co))
local w = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end return "end" end) print(w(), w(), w(), w(), pcall(w))
print(coroutine.running(), coroutine.isyieldable()) coroutine.wrap(function() print(type(coroutine.running()), coroutine.isyieldable(), coroutine.status(coroutine.running())) end)()
local outer outer = coroutine.create(function() local inner = coroutine.create(function() print("outer is", coroutine.status(outer)) print(coroutine.resume(outer)) end) coroutine.resume(inner) print(coroutine.status(inner)) end) coroutine.resume(outer)
print(coroutine.resume(coroutine.create(function() error("oops") end))) print(coroutine.resume(coroutine.create(function() error({}) end)) == false) print(coroutine.resume(coroutine.create(function() error() end)))
print(pcall(coroutine.wrap(function() error("in wrap") end))) print(pcall(coroutine.wrap(function() local x = nil; return x.y end)))
print(pcall(coroutine.create)) print(pcall(coroutine.create, 5)) print(pcall(coroutine.resume, 5)) print(pcall(coroutine.status, nil)) print(pcall(coroutine.wrap, nil)) print(pcall(coroutine.yield, 1)) print(coroutine.resume(coroutine.create(print), "direct", "native"))
-- Yields across pcall, metamethods, iterators.
local c2 = coroutine.wrap(function() local ok, v = pcall(function() local x = coroutine.yield("in pcall") error("after " .. x, 0) end) coroutine.yield(tostring(ok) .. " " .. v)
  local mt = setmetatable({}, {__add = function(a, b) return coroutine.yield("add") end, __index = function(t, k) return coroutine.yield("index " .. k) end, __call = function(self, x) return coroutine.yield("call " .. x) end, __lt = function() return coroutine.yield("lt") end, __concat = function() return coroutine.yield("concat") end, __newindex = function(t, k, v) coroutine.yield("newindex " .. k) end, __eq = function() return coroutine.yield("eq") end, __unm = function() return coroutine.yield("unm") end})
  local r = {mt + 1, mt.foo, mt(7), mt < mt, mt .. "x", -mt} mt.bar = 1 r[#r + 1] = tostring(mt == setmetatable({}, getmetatable(mt)))
  for i = 1, #r do r[i] = tostring(r[i]) end coroutine.yield(table.concat(r, ","))
  for x in function() return coroutine.yield("iter") end do coroutine.yield("body " .. x) end return "finished" end)
local v = c2() for i = 1, 20 do print(v) if v == "finished" then break end if v == "iter" and i > 14 then v = c2(nil) else v = c2("r" .. i) end end
-- Many coroutines, deep recursion of resumes, generators.
local function gen(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end end) end local sum = 0 for i = 1, 1000 do for x in gen(3) do sum = sum + x end end print(sum)
local function nest(n) if n == 0 then return 0 end return 1 + select(2, coroutine.resume(coroutine.create(function() return nest(n - 1) end))) end print(nest(50))
local function perm(a, n) n = n or #a if n <= 1 then coroutine.yield(table.concat(a)) else for i = 1, n do a[n], a[i] = a[i], a[n] perm(a, n - 1) a[n], a[i] = a[i], a[n] end end end for p in coroutine.wrap(function() perm{"a", "b", "c"} end) do io.write(p, " ") end print()
