//! The math library, with LuaJIT's random number generator: the same sequence for the same seed.

use super::set_field;
use crate::bytecode::ops::Mm;
use crate::error::messages as msg;
use crate::interp::handlers::builtin as fast;
use crate::interp::handlers::native::{typed_num, typed_num2};
use crate::state::Vm;
use crate::state::native::{
    Effect, Entry, NativeFn, NativeResult, NativeRow, Outcome, Raised, SigType, Takes, TypedSig,
};
use crate::userdata::Userdata;
use crate::value::{Value, number};

type Unary = extern "C" fn(f64) -> f64;
type Binary = extern "C" fn(f64, f64) -> f64;

const fn unary(name: &'static str, f: NativeFn, direct: Unary) -> NativeRow {
    let sig = TypedSig {
        args: &[SigType::Num],
        ret: SigType::Num,
        effect: Effect::Pure,
        addr: direct as *const (),
    };
    NativeRow::new(name, f).with_sig(sig).with_fast(typed_num)
}

const fn binary(name: &'static str, f: NativeFn, direct: Binary) -> NativeRow {
    let sig = TypedSig {
        args: &[SigType::Num, SigType::Num],
        ret: SigType::Num,
        effect: Effect::Pure,
        addr: direct as *const (),
    };
    NativeRow::new(name, f).with_sig(sig).with_fast(typed_num2)
}

/// Functions of one argument: the row's function and its direct form from one expression.
macro_rules! unary_functions {
    ($($name:ident $direct:ident = |$x:ident| $e:expr;)*) => {$(
        extern "C" fn $direct($x: f64) -> f64 {
            $e
        }
        fn $name(vm: &mut Vm, _: Entry) -> NativeResult {
            let x = vm.check_num(0)?;
            Ok(Outcome::one(Value::num($direct(x))))
        }
    )*};
}

unary_functions! {
    abs abs_direct = |x| x.abs();
    acos acos_direct = |x| x.acos();
    asin asin_direct = |x| x.asin();
    atan atan_direct = |x| x.atan();
    ceil ceil_direct = |x| x.ceil();
    cos cos_direct = |x| x.cos();
    cosh cosh_direct = |x| x.cosh();
    exp exp_direct = |x| x.exp();
    floor floor_direct = |x| x.floor();
    log10 log10_direct = |x| x.log10();
    sin sin_direct = |x| x.sin();
    sinh sinh_direct = |x| x.sinh();
    sqrt sqrt_direct = |x| x.sqrt();
    tan tan_direct = |x| x.tan();
    tanh tanh_direct = |x| x.tanh();
}

extern "C" fn deg_direct(x: f64) -> f64 {
    x * (180.0 / std::f64::consts::PI)
}

extern "C" fn rad_direct(x: f64) -> f64 {
    x * (std::f64::consts::PI / 180.0)
}

/// `math.deg(x)`.
fn deg(vm: &mut Vm, e: Entry) -> NativeResult {
    product(vm, e, deg_direct, "deg")
}

/// `math.rad(x)`.
fn rad(vm: &mut Vm, e: Entry) -> NativeResult {
    product(vm, e, rad_direct, "rad")
}

/// The argument times a constant, as the multiplication of the language has it: with `__mul`, and with its error. May
/// call Lua.
fn product(vm: &mut Vm, e: Entry, direct: Unary, name: &str) -> NativeResult {
    if e.label() == 1 {
        let r = if e.count() == 0 { Value::NIL } else { vm.top_value(e.count(), 0) };
        return Ok(Outcome::one(r));
    }
    let v = vm.arg(0);
    if let Some(x) = vm.to_number(v) {
        return Ok(Outcome::one(Value::num(direct(x))));
    }
    let mul = vm.metamethod(v, Mm::Mul);
    if mul.is_nil() {
        let text = msg::fill(msg::BAD_OPERAND, &[b"perform arithmetic on", v.type_name().as_bytes()]);
        let at = format!("[builtin:{name}]:0: ");
        return Err(vm.throw_plain(&[at.as_bytes(), &text].concat()));
    }
    vm.prepare_call(mul);
    vm.push(v);
    vm.push(Value::num(direct(1.0)));
    Ok(Outcome::call(2, 1))
}

/// Functions of two arguments.
macro_rules! binary_functions {
    ($($name:ident $direct:ident = |$x:ident, $y:ident| $e:expr;)*) => {$(
        extern "C" fn $direct($x: f64, $y: f64) -> f64 {
            $e
        }
        fn $name(vm: &mut Vm, _: Entry) -> NativeResult {
            let x = vm.check_num(0)?;
            let y = vm.check_num(1)?;
            Ok(Outcome::one(Value::num($direct(x, y))))
        }
    )*};
}

binary_functions! {
    atan2 atan2_direct = |x, y| x.atan2(y);
    fmod fmod_direct = |x, y| x % y;
    pow pow_direct = |x, y| x.powf(y);
}

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    unary("math.abs", abs, abs_direct).with_fast(fast::ABS).plain(Takes::Values),
    unary("math.acos", acos, acos_direct),
    unary("math.asin", asin, asin_direct),
    unary("math.atan", atan, atan_direct),
    binary("math.atan2", atan2, atan2_direct),
    unary("math.ceil", ceil, ceil_direct).with_fast(fast::CEIL),
    unary("math.cos", cos, cos_direct),
    unary("math.cosh", cosh, cosh_direct),
    unary("math.deg", deg, deg_direct).plain(Takes::Values),
    unary("math.exp", exp, exp_direct),
    unary("math.floor", floor, floor_direct).with_fast(fast::FLOOR),
    binary("math.fmod", fmod, fmod_direct),
    NativeRow::new("math.frexp", frexp).plain(Takes::Values),
    NativeRow::new("math.ldexp", ldexp).plain(Takes::Values),
    NativeRow::new("math.log", log).plain(Takes::Values),
    unary("math.log10", log10, log10_direct),
    NativeRow::new("math.max", max).with_fast(fast::MAX),
    NativeRow::new("math.min", min).with_fast(fast::MIN),
    NativeRow::new("math.modf", modf).plain(Takes::Values),
    binary("math.pow", pow, pow_direct),
    unary("math.rad", rad, rad_direct).plain(Takes::Values),
    NativeRow::new("math.random", random).plain(Takes::Values),
    NativeRow::new("math.randomseed", randomseed),
    unary("math.sin", sin, sin_direct),
    unary("math.sinh", sinh, sinh_direct),
    unary("math.sqrt", sqrt, sqrt_direct).with_fast(fast::SQRT),
    unary("math.tan", tan, tan_direct),
    unary("math.tanh", tanh, tanh_direct),
];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    let t = super::new_library(vm, "math", FNS);
    set_field(vm, t, "pi", Value::num(std::f64::consts::PI));
    set_field(vm, t, "huge", Value::num(f64::INFINITY));
    // Generator and seeding share one state.
    let state = vm.heap.new_udata(Random::seeded(0.0), None).value();
    super::give_upvalues(vm, t, "random", &[state]);
    super::give_upvalues(vm, t, "randomseed", &[state]);
}

/// `math.log(x, base)`.
fn log(vm: &mut Vm, _: Entry) -> NativeResult {
    let x = vm.check_num(0)?;
    let r = if vm.arg_opt(1).is_none() { x.ln() } else { x.log2() * (1.0 / vm.check_num(1)?.log2()) };
    Ok(Outcome::one(Value::num(r)))
}

fn extreme(vm: &mut Vm, e: Entry, better: fn(f64, f64) -> bool) -> NativeResult {
    let mut m = vm.check_num(0)?;
    for i in 1..e.count() {
        let x = vm.check_num(i)?;
        // A NaN loses against what follows, as the processor's instruction has it.
        if !better(m, x) {
            m = x;
        }
    }
    Ok(Outcome::one(Value::num(m)))
}

/// `math.max(x, ...)`.
fn max(vm: &mut Vm, e: Entry) -> NativeResult {
    extreme(vm, e, |m, x| m > x)
}

/// `math.min(x, ...)`.
fn min(vm: &mut Vm, e: Entry) -> NativeResult {
    extreme(vm, e, |m, x| m < x)
}

/// `math.frexp(x)`: mantissa and exponent.
fn frexp(vm: &mut Vm, _: Entry) -> NativeResult {
    let (m, e) = number::frexp(vm.check_num(0)?);
    vm.push(Value::num(m));
    vm.push(Value::int(e));
    Ok(Outcome::top(2))
}

/// `math.ldexp(m, e)`: `e` may be any number, as the processor's instruction has it.
fn ldexp(vm: &mut Vm, _: Entry) -> NativeResult {
    let m = vm.check_num(0)?;
    let e = vm.check_num(1)?;
    let r = if e.is_infinite() {
        m * if e > 0.0 { f64::INFINITY } else { 0.0 }
    } else if e.is_nan() {
        e
    } else {
        // Beyond this every result is an infinity or zero.
        number::ldexp(m, e.clamp(-10000.0, 10000.0) as i32)
    };
    Ok(Outcome::one(Value::num(r)))
}

/// `math.modf(x)`: whole and fractional part, both with the sign of `x`.
fn modf(vm: &mut Vm, _: Entry) -> NativeResult {
    let x = vm.check_num(0)?;
    let whole = x.trunc();
    let rest = if x.is_infinite() { 0.0 } else { x - whole };
    vm.push(Value::num(whole));
    vm.push(Value::num(rest.copysign(x)));
    Ok(Outcome::top(2))
}

/// Four linear-feedback shift registers combined: a Tausworthe generator with period 2^223.
#[derive(Clone, Copy)]
pub struct Random {
    state: [u64; 4],
}

/// Of each register: bits in use, and the two shifts of its recurrence.
const REGISTERS: [(u32, u32, u32); 4] = [(63, 31, 18), (58, 19, 28), (55, 24, 7), (47, 21, 8)];

impl Random {
    /// The generator as `math.randomseed(seed)` leaves it.
    pub fn seeded(seed: f64) -> Random {
        let mut state = [0; 4];
        let mut d = seed;
        for (word, (bits, _, _)) in state.iter_mut().zip(REGISTERS) {
            d = d * std::f64::consts::PI + std::f64::consts::E;
            // The bits in use must not all be zero.
            let least = 1u64 << (64 - bits);
            *word = d.to_bits();
            if *word < least {
                *word += least;
            }
        }
        let mut r = Random { state };
        for _ in 0..10 {
            r.next_u64();
        }
        r
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut all = 0;
        for (word, (bits, up, step)) in self.state.iter_mut().zip(REGISTERS) {
            let z = *word;
            let feedback = (z << up ^ z) >> (bits - step);
            *word = feedback ^ (z & !0 << (64 - bits)) << step;
            all ^= *word;
        }
        all
    }

    /// A number in `[0, 1)` with 52 random bits.
    pub fn next_f64(&mut self) -> f64 {
        f64::from_bits(self.next_u64() & ((1 << 52) - 1) | 1023 << 52) - 1.0
    }
}

fn generator(vm: &mut Vm) -> Result<&mut Random, Raised> {
    match vm.upvalue(0).as_obj::<Userdata>() {
        Some(u) if u.downcast::<Random>(&vm.heap).is_some() => {
            Ok(u.downcast_mut(&mut vm.heap).expect("its type was just asked for"))
        }
        _ => Err(vm.throw_plain(b"the random generator has lost its state")),
    }
}

/// `math.random()`, `math.random(n)`, `math.random(m, n)`.
fn random(vm: &mut Vm, e: Entry) -> NativeResult {
    let r = match e.count() {
        0 => generator(vm)?.next_f64(),
        1 => {
            let n = vm.check_num(0)?;
            (generator(vm)?.next_f64() * n).floor() + 1.0
        }
        _ => {
            let m = vm.check_num(0)?;
            let n = vm.check_num(1)?;
            (generator(vm)?.next_f64() * (n - m + 1.0)).floor() + m
        }
    };
    Ok(Outcome::one(Value::num(r)))
}

/// `math.randomseed(seed)`; without a seed the system's entropy is used.
fn randomseed(vm: &mut Vm, e: Entry) -> NativeResult {
    let seed = if e.count() == 0 { super::sys::entropy() } else { vm.check_num(0)? };
    *generator(vm)? = Random::seeded(seed);
    Ok(Outcome::none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_luajits_sequence() {
        let mut r = Random::seeded(42.0);
        assert_eq!(format!("{:.14}", r.next_f64()), "0.95607928791821");
        let mut r = Random::seeded(0.0);
        assert_eq!(format!("{:.14}", r.next_f64()), "0.79420629243124");
        let mut r = Random::seeded(123.456);
        assert_eq!(r.next_f64(), 0.37434921134491317);
        assert_eq!(r.next_f64(), 0.25336106795577917);
    }
}
