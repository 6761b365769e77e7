--- -zeal
-- lfs: every function, on files of its own.
local lfs = require "lfs"
print(lfs._VERSION, package.loaded.lfs == lfs)

local function check(ok, ...)
  if not ok then error(tostring((...)), 2) end
  return ok, ...
end
local root = os.tmpname()
os.remove(root)
print(lfs.mkdir(root))
local again = { lfs.mkdir(root) }
print(again[1], again[2], again[3])

local here = check(lfs.currentdir())
print(lfs.chdir(root), lfs.currentdir():match("[^/]+$") == root:match("[^/]+$"))
local bad = { lfs.chdir("nowhere") }
print(bad[1], (bad[2]:gsub("\n", "|")))

-- files
local f = assert(io.open("a.txt", "w"))
f:write("hello")
f:close()
local a = lfs.attributes("a.txt")
print(a.mode, a.size, a.nlink, #a.permissions, type(a.ino), type(a.blocks), type(a.blksize))
print(lfs.attributes("a.txt", "mode"), lfs.attributes("a.txt", "size"))
local t = { kept = true }
print(lfs.attributes("a.txt", t) == t, t.kept, t.mode)
print(lfs.attributes("missing"))
print(pcall(lfs.attributes, "a.txt", "colour"))
print(pcall(lfs.attributes))
print(lfs.attributes(".", "mode"), lfs.attributes("/dev/null", "mode"))

-- times
print(lfs.touch("a.txt", 1000, 2000), lfs.attributes("a.txt", "access"), lfs.attributes("a.txt", "modification"))
print(lfs.touch("a.txt", 3000), lfs.attributes("a.txt", "access"), lfs.attributes("a.txt", "modification"))
print(lfs.touch("a.txt"), lfs.attributes("a.txt", "modification") > 1e9)
print(lfs.touch("missing"))

-- links
print(lfs.link("a.txt", "soft", true), lfs.link("a.txt", "hard"))
print(lfs.symlinkattributes("soft", "mode"), lfs.attributes("soft", "mode"), lfs.symlinkattributes("soft", "target"))
print(lfs.symlinkattributes("soft").target, lfs.attributes("hard", "nlink"))
print(lfs.link("missing", "x"))

-- folders
print(lfs.mkdir("sub"), lfs.attributes("sub", "mode"))
local names = {}
for name, d in lfs.dir(".") do names[#names + 1] = name end
table.sort(names)
print(table.concat(names, " "))
local nxt, d = lfs.dir("sub")
print(type(nxt), type(d), d:next(), d:next(), d:next())
print(pcall(d.next, d))
local _, e = lfs.dir("sub")
e:close()
print(pcall(e.next, e))
print(pcall(lfs.dir, "missing"))
print(pcall(nxt, io.stdout))

-- locks
local g = assert(io.open("a.txt", "r+"))
print(lfs.lock(g, "w"), lfs.unlock(g), lfs.lock(g, "r", 1, 2), lfs.unlock(g, 1, 2))
print(lfs.setmode(g, "binary"))
print(pcall(lfs.lock, g, "x"))
g:close()
print(pcall(lfs.lock, g, "w"))
local l = check(lfs.lock_dir("sub"))
print(lfs.lock_dir("sub"))
print(lfs.lock_dir("sub", 1000))
l:free()
local l2 = check(lfs.lock_dir("sub"))
l2:free()
l2:free()

-- away with it
print(lfs.rmdir("."))
for _, n in ipairs { "a.txt", "soft", "hard" } do os.remove(n) end
print(lfs.rmdir("sub"), lfs.rmdir("sub"))
lfs.chdir(here)
print(lfs.rmdir(root))
