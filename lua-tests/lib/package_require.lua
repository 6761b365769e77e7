-- require: preload, files, errors, loops; searchpath; module.
package.path, package.cpath = "./?.none", ""
print(pcall(require, "no.such")) print(type(package.loaded), package.loaded._G == _G, package.loaded.string == string, require("string") == string)
package.preload.a = function(...) print("loading", ...) return {name = ...} end
print(require("a").name, require("a") == require("a"), package.loaded.a.name)
package.preload.b = function() end print(require("b"), package.loaded.b) package.preload.c = function(n) package.loaded[n] = "set by itself" end print(require("c"))
package.preload.d = function() return false end print(require("d"), package.loaded.d)
package.preload.loop = function() return require("loop") end print(pcall(require, "loop")) print(pcall(require, "loop"))
package.preload.bad = function() error("broken", 0) end print(pcall(require, "bad")) print(pcall(require, "bad"))
local name = os.tmpname() os.remove(name) local dir, base = name:match("^(.*/)(.*)$") package.path = dir .. "?.lua;" .. dir .. "?/init.lua"
local f = io.open(name .. ".lua", "w") f:write("print('file', (...):gsub('[%w_]+', 'NAME')) return function() return 'module value' end") f:close()
print(pcall(require, base) and require(base)()) f = io.open(name .. ".lua", "w") f:write("syntax error") f:close() package.loaded[base] = nil
print((select(2, pcall(require, base)):gsub(dir:gsub("%p", "%%%0") .. "[%w_]+", "FILE"):gsub(base, "NAME"))) os.remove(name .. ".lua")
print(package.searchpath("a.b", "./?.x;/y/?.x")) print(package.searchpath("a-b", "?.q", "-", "+")) print(package.searchpath("x", ""))
print(#package.loaders, package.config) table.insert(package.loaders, 1, function(n) if n == "virtual" then return function(m) return "virtual " .. m end end return "\n\tnot virtual: " .. n end)
print(require("virtual")) print((select(2, pcall(require, "other")):match("not virtual: other"))) table.remove(package.loaders, 1)
local old = package.path package.path = nil print(pcall(require, "nope")) package.path = old old = package.loaders package.loaders = 1 print(pcall(require, "nope2")) package.loaders = old
print(pcall(require)) print(pcall(require, {})) print(package.loadlib("/nonexistent.so", "f") == nil)
local function mk() module("mod.sub", package.seeall) value = 5 function get() return value, _NAME, _PACKAGE, _M.value, print ~= nil end end mk()
print(mod.sub.get()) print(package.loaded["mod.sub"] == mod.sub) print(pcall(module, "string.format")) print(pcall(function() module("plain") return print end) == false or true)
-- A path for the system's loader has a limit; it ends at a zero.
print(package.loadlib(("x"):rep(4096), "f"))
print(select(2, package.loadlib(("x"):rep(4095), "f")) == "path too long", select(2, package.loadlib("x\0" .. ("x"):rep(5000), "f")) == "path too long")
