-- Multiple assignment, scoping, closures and upvalues.
local a, b, c = 1, 2 print(a, b, c) a, b = b, a print(a, b) local i, t = 1, {} i, t[i] = i + 1, 20 print(i, t[1], t[2])
local function f() return 1, 2, 3 end local x, y, z, w = f() print(x, y, z, w) x, y = f(), 10 print(x, y) local p = {f(), f()} print(#p) p = {f(), (f())} print(#p) p = {(f())} print(#p) print(f(), f()) print((f()))
do local a = "inner" print(a) end print(a) local s = 0 for i = 1, 3 do local i = i * 2 s = s + i end print(s)
local fs = {} for i = 1, 3 do fs[i] = function() i = i + 1 return i end end print(fs[1](), fs[1](), fs[2](), fs[3]())
local function counter() local n = 0 return function() n = n + 1 return n end, function() return n end end local inc, get = counter() inc() inc() print(get()) local inc2, get2 = counter() inc2() print(get(), get2())
local k = 1 while k < 3 do local c = k fs[k] = function() return c end k = k + 1 end print(fs[1](), fs[2]()) k = 0 repeat local done = k >= 2 k = k + 1 until done print(k)
local function va(...) local a, b = ... return select("#", ...), a, b, ... end print(va()) print(va(nil)) print(va(1, 2, 3)) print((va(1, nil, nil))) local function tail(...) return va(...) end print(tail(5, 6)) print(pcall(va, 1, 2))
local t2 = {1, 2, 3, n = 4, ["key with space"] = 5, [10] = 6, [1.5] = 7, f(), } print(#t2, t2.n, t2["key with space"], t2[10], t2[1.5], t2[6]) local nested = {a = {b = {c = "deep"}}} print(nested.a.b.c, nested["a"]["b"]["c"]) t2.n = nil print(t2.n)
local function fact(n) if n <= 1 then return 1 end return n * fact(n - 1) end print(fact(10), fact(20)) local function even(n) if n == 0 then return true end return odd(n - 1) end function odd(n) if n == 0 then return false end return even(n - 1) end print(even(1000), even(1001))
local obj = {v = 1} function obj:add(n) self.v = self.v + n return self end function obj.static(n) return n end print(obj:add(2):add(3).v, obj.static(4)) local mt = {} mt.__index = mt function mt.new(v) return setmetatable({v = v}, mt) end function mt:get() return self.v end print(mt.new(9):get())
goto skip print("not reached") ::skip:: for i = 1, 3 do for j = 1, 3 do if j == 2 then goto continue end io.write(i, ":", j, " ") ::continue:: end end print() do local n = 0 ::top:: n = n + 1 if n < 5 then goto top end print(n) end
local long = [[
first newline dropped
]] print(long, #long, [==[a]]b]==], "\65\066\x43\z
   continued", '\u{48}\u{20AC}', "tab\tq\"uote") 
