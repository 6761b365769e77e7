-- string.dump and load: stripped and whole, upvalues, modes.
local function mk() local t = nil; local u = t; return function(a) local q = a.b; error("x") end end
local f = loadstring(string.dump(mk(), true)) print(pcall(f)) print(pcall(f, {}))
local f = loadstring(string.dump(mk(), true), "@foo.lua") print(pcall(f)) print(pcall(f, {}))
local f = loadstring(string.dump(loadstring("local t = nil; return function(a) local q = a.b end", "=x")())) print(pcall(f))
local f = loadstring(string.dump(function() return x.y.z end, true)) print(pcall(f))
local i = debug.getinfo(f) print(i.source == nil, #i.source > 0, i.short_src, i.linedefined, i.lastlinedefined, i.currentline, i.what)
local up = 5
local f = loadstring(string.dump(function() return up end)) print(pcall(f))
print(debug.getupvalue(f, 1))
local f = loadstring(string.dump(function() return up end, true))
print(debug.getupvalue(f, 1))
print(pcall(string.dump, print))
print(pcall(string.dump))
print(loadstring(string.dump(function() end), "x", "t"))
print(load(string.dump(function() end), "x", "t"))
local s = string.dump(function(...) local a, b = ... for i = a, b do coroutine.yield(i) end for k, v in pairs{x = 1} do coroutine.yield(k, v) end return a and b or 3 end, "sd")
local co = coroutine.wrap(load(s)) print(co(1, 2), co(), co(), co())
print(string.dump(load(s), "sd") == s)
print(load("return 1", "x", "b"))
-- A dump that was tampered with is refused or runs; it never does anything else.
local whole = string.dump(loadstring("local t = {...} for k, v in pairs(t) do t[k] = function() return v end end return #t, t[1] and t[1]()", "=x"))
local refused, loaded = 0, 0
for i = 6, #whole do
  for _, c in ipairs{0, 1, 127, 255} do
    local f = loadstring(whole:sub(1, i - 1) .. string.char(c) .. whole:sub(i + 1))
    if f then loaded = loaded + 1 else refused = refused + 1 end
  end
end
print(refused > 100, loaded > 10, select(2, loadstring(whole:sub(1, -2), "=x")) == "x: cannot load malformed bytecode" or "differs")
