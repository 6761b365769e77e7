-- Byte order mark, first lines, comments, white space.
local function try(s, n) local f, e = load(s, n or "=c") print((("%q"):format(s):gsub("\n", "n"):gsub("\r", "r")), f and "ok" or e) if f then print(pcall(f)) end end
local bom = "\xef\xbb\xbf"
try(bom .. "return 1") try(bom .. bom .. "return 1") try("\xef\xbbreturn 1") try(bom) try(bom .. "# x\nreturn 2") try("# x\nreturn 2") try("#!x\nreturn debug.getinfo(1, 'l').currentline") try("#") try("\n#x\nreturn 3") try(" #x\nreturn 3") try("return 1" .. bom)
local name = os.tmpname()
local function file(s) local h = io.open(name, "wb") h:write(s) h:close() local f, e = loadfile(name) print((("%q"):format(s):gsub("\n", "n"):gsub("\r", "r")), f and "ok" or e:gsub(name, "NAME", 1)) if f then print(pcall(f)) end end
file("#!/usr/bin/x\nreturn debug.getinfo(1, 'l').currentline") file("# x") file("# x\n") file("#\nreturn 2") file(bom .. "# x\nreturn debug.getinfo(1, 'l').currentline") file(bom .. "return 5") file(bom) file("") file("\n\n") file("# x\rreturn 7") file("# x\r\nreturn 8") file("#x\n#y\nreturn 1") file("return 1 -- no newline") file("x =") file("# a\nx =") file("\27Lua") file("# x\n\27LJ") file("return 1\0") file("return '\0' == '\\0'") file(" # x\nreturn 1")
os.remove(name)
try("--") try("--\n") try("-- x\nreturn 1") try("--[ x\nreturn 1") try("--[[ x ]] return 1") try("--[==[ ]] ]=] ]==] return 1") try("--[==\nreturn 2") try("--[[") try("--[[ ]") try("--[=[ ]]") try("--[[\n\n") try("--[=[\n\n]]\n") try("return 1 --[[ ]] + 1") try("--[[a]]--[[b]]return 3") try("--[[ [[ ]] return 4") try("-- [[\nreturn 5") try("---[[\nreturn 6\n--]]")
try("return 1 - -1") try("return 1--1") try("return\v1\f+\t2\r\n") try("return 1 \0") try("return \0 1") try("\0") try("return 1;\0") try("x =\r\n\r\n=") try("x =\n\r\n\r=") try("x =\r\r=") try("x =\n\n=") try("--\r\n--\n\rx = =")
