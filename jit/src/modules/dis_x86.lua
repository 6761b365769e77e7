-- jit.dis_x86: machine code of x86 and x64 as text.
--
-- `decode(code, from, to, address, bits)` is native. It gives the length of an instruction, its text (nil: these bytes are
-- none), the address that it jumps to, the address of the memory it names relative to itself, and whether it always goes elsewhere.

local decode = ...

local byte, format, gsub, rep, reverse, sub = string.byte, string.format, string.gsub, string.rep, string.reverse, string.sub
local max, min = math.max, math.min

local GENERAL32 = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" }
local GENERAL64 = {
  "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
}

local function register(general, n)
  return general[n + 1] or "xmm" .. n - #general
end

local function hex(s)
  return (gsub(s, ".", function(c) return format("%02X", byte(c)) end))
end

local function put(ctx, at, n, text, symbol)
  local digits, width = "", ctx.hexdump
  if width > 0 then
    digits = hex(sub(ctx.code, at + 1, at + n))
    digits = #digits > width and sub(digits, 1, width) .. ". " or digits .. rep(" ", width + 2 - #digits)
  end
  ctx.out(format("%08x  %s%s%s\n", ctx.addr + at, digits, text, symbol and "\t->" .. symbol or ""))
end

-- Lists constants behind the code.
local function data(ctx, at, stop)
  while at < stop do
    local n = stop - at >= 8 and 8 or stop - at >= 4 and 4 or 1
    local what = n == 8 and "dq" or n == 4 and "dd" or "db"
    put(ctx, at, n, what .. " 0x" .. hex(reverse(sub(ctx.code, at + 1, at + n))):lower())
    at = at + n
  end
end

-- Lists `len` bytes of the context's code from offset `from` on; without them, all of it.
local function block(ctx, from, len)
  local code = ctx.code
  local at = from or 0
  local stop = min(len and at + len or #code, #code)
  -- Where the constants begin that the code seen so far reads, here or in an earlier block: nothing from there on is code.
  local pool = min(ctx.pool or stop, stop)
  while at < pool do
    local n, text, target, memory, leaves = decode(code, at, stop, ctx.addr + at, ctx.bits)
    put(ctx, at, n, text or at + n >= stop and "(incomplete)" or "(unknown)", target and ctx.symtab[target])
    at = at + n
    if memory and memory - ctx.addr >= at and memory - ctx.addr < #code then
      ctx.pool = min(ctx.pool or #code, memory - ctx.addr)
      pool = min(pool, ctx.pool)
    end
    -- Constants are aligned.
    if leaves and pool < stop and pool - at < 16 and not sub(code, at + 1, pool):find("[^%z]") then break end
  end
  if pool < stop then data(ctx, max(pool, from or 0), stop) end
end

local function context(bits)
  return function(code, addr, out)
    return {
      code = code, addr = addr or 0, out = out or io.write, symtab = {}, hexdump = 16, bits = bits, disass = block,
    }
  end
end

local create, create64 = context(32), context(64)

return {
  create = create,
  create64 = create64,
  disass = function(...) create(...):disass() end,
  disass64 = function(...) create64(...):disass() end,
  regname = function(n) return register(GENERAL32, n) end,
  regname64 = function(n) return register(GENERAL64, n) end,
}
