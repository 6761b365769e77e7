-- jit.dis_arm, jit.dis_arm64, jit.dis_arm64be, jit.dis_ppc, jit.dis_mips and its kin: machine code of machines whose instructions
-- are four bytes long.
--
-- `decode(code, from, to, address, machine)` is native: the length of an instruction, its text (nil: these bytes are none), the
-- address that it jumps to. `...` are it and the machine of the module.

local decode, machine = ...

local byte, format, sub = string.byte, string.format, string.sub
local min = math.min

local family = machine:match("^mips") or machine:match("^arm64") or machine

-- Names of general registers that are not a letter and their number, the letters, and how many registers there are.
local NAMES = {
  arm = { [13] = "sp", [14] = "lr", [15] = "pc", general = "r", float = "d", count = 16 },
  arm64 = { [31] = "sp", general = "x", float = "d", count = 32, all = 64 },
  ppc = { [1] = "sp", general = "r", float = "f", count = 32 },
  mips = { [29] = "sp", [31] = "ra", general = "r", float = "f", count = 32 },
}

local function regname(n)
  local names = NAMES[family]
  if n < names.count then return names[n] or names.general .. n end
  return n < (names.all or n + 1) and names.float .. n - names.count or nil
end

-- The bytes of the instruction at `at` as a number's digits.
local function word(ctx, at)
  local a, b, c, d = byte(ctx.code, at + 1, at + 4)
  if ctx.big then a, b, c, d = d, c, b, a end
  return format("%02x%02x%02x%02x", d or 0, c or 0, b or 0, a or 0)
end

-- Lists `len` bytes of the context's code from offset `from` on; without them, all of it. What is left behind the last whole
-- instruction is not listed.
local function block(ctx, from, len)
  local at = from or 0
  at = at - at % 4
  local stop = min(len and (from or 0) + len or #ctx.code, #ctx.code)
  while at + 4 <= stop do
    local _, text, target = decode(ctx.code, at, stop, ctx.addr + at, ctx.machine)
    text = text and text:gsub("^(%S+) ", function(name) return format("%-7s ", name) end) or ".long   0x" .. word(ctx, at)
    local symbol = target and ctx.symtab[target]
    local digits = ctx.hexdump > 0 and word(ctx, at) .. "  " or ""
    ctx.out(format("%08x  %s%s%s\n", ctx.addr + at, digits, text, symbol and "\t->" .. symbol or ""))
    at = at + 4
  end
end

local function creates(machine)
  local big = machine == "ppc" or machine:match("^mips") and not machine:match("el$")
  return function(code, addr, out)
    return {
      code = code, addr = addr or 0, out = out or io.write, symtab = {}, hexdump = 8, machine = machine, big = big, disass = block,
    }
  end
end

local function lists(create)
  return function(...) create(...):disass() end
end

local create = creates(machine)
local module = { create = create, disass = lists(create), regname = regname }
if machine == "mips" then
  for suffix, other in pairs { _el = "mips64el", _r6 = "mips64r6", _r6_el = "mips64r6el" } do
    local create = creates(other)
    module["create" .. suffix], module["disass" .. suffix] = create, lists(create)
  end
end
return module
