-- getfenv and setfenv on functions, levels and coroutines.
print(getfenv() == _G, getfenv(0) == _G, getfenv(1) == _G, getfenv(print) == _G, getfenv(function() end) == _G)
local function f() return v end
local env = setmetatable({v = "in env"}, {__index = _G})
print(f(), setfenv(f, env) == f, f(), getfenv(f) == env)
local function g() setfenv(1, {print = print, getfenv = getfenv}) print(getfenv ~= nil, tostring) end g() print(tostring ~= nil)
local function outer() local function inner() setfenv(2, {print = print, marker = "changed"}) end inner() print(marker) end outer()
print(pcall(setfenv, print, {})) print(pcall(setfenv, 1, nil)) print(pcall(setfenv, f)) print(pcall(getfenv, 100)) print(pcall(getfenv, -1)) print(pcall(setfenv, 100, {})) print(pcall(getfenv, {})) print(pcall(setfenv, "x", {}))
local c = coroutine.create(function() setfenv(0, {x = "thread env", print = print}) return loadstring("return x")() end) print(coroutine.resume(c))
local h = loadstring("return function() return z end")() setfenv(h, {z = 1}) print(h())
local function counter() n = (n or 0) + 1 return n end setfenv(counter, {}) print(counter(), counter(), n)
