-- jit.dis_x64: machine code of x64 as text.

local x86 = require("jit.dis_x86")

return { create = x86.create64, disass = x86.disass64, regname = x86.regname64 }
