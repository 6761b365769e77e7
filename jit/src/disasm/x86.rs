//! x86 machine code as text, in NASM's words, and what can be found in a trace's code: its loop and its exits.

use super::Line;
use crate::dump::Places;
use iced_x86::{
    CC_ae, CC_e, CC_ne, CC_np, CC_p, Decoder, DecoderOptions, FlowControl, Formatter, Instruction,
};
use iced_x86::{MemorySizeOptions, Mnemonic, NasmFormatter, OpKind};

fn formatter() -> NasmFormatter {
    let mut f = NasmFormatter::new();
    let o = f.options_mut();
    o.set_hex_prefix("0x");
    o.set_hex_suffix("");
    o.set_uppercase_hex(false);
    o.set_space_after_operand_separator(true);
    o.set_small_hex_numbers_in_decimal(false);
    o.set_add_leading_zero_to_hex_numbers(false);
    o.set_signed_immediate_operands(true);
    o.set_branch_leading_zeros(false);
    o.set_show_branch_size(false);
    o.set_rip_relative_addresses(true);
    o.set_memory_size_options(MemorySizeOptions::Minimal);
    o.set_cc_ae(CC_ae::nb);
    o.set_cc_e(CC_e::z);
    o.set_cc_ne(CC_ne::nz);
    o.set_cc_p(CC_p::pe);
    o.set_cc_np(CC_np::po);
    f
}

fn branch(i: &Instruction) -> Option<u64> {
    let near = matches!(i.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    near.then(|| i.near_branch_target())
}

fn leaves(i: &Instruction) -> bool {
    matches!(
        i.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return
    )
}

/// The instruction at the begin of `code`, which lies at `address`. `bits` is 32 or 64.
pub fn line(code: &[u8], address: u64, bits: u32) -> Line {
    let mut i = Instruction::default();
    Decoder::with_ip(bits, code, address, DecoderOptions::NONE).decode_out(&mut i);
    if i.is_invalid() {
        return Line { len: i.len().max(1), text: None, branch: None, data: None, last: false };
    }
    let mut text = String::new();
    formatter().format(&i, &mut text);
    let data = i.is_ip_rel_memory_operand().then(|| i.ip_rel_memory_address());
    Line { len: i.len(), text: Some(text), branch: branch(&i), data, last: leaves(&i) }
}

/// Finds the places in the code of trace `no` with `exits` exits. The loop's jump is the one that goes back furthest: walks of
/// chains go back too, within it. An exit loads its code, the trace's number above its own, in a block of its own.
pub fn places(code: &[u8], no: u32, exits: usize, loops: bool) -> Places {
    let mut out = Places { looping: 0, exits: vec![None; exits] };
    let mut furthest = 0;
    let mut block = 0;
    for i in Decoder::new(64, code, DecoderOptions::NONE).iter() {
        if i.is_invalid() {
            break;
        }
        let at = i.ip() as usize;
        if let Some(to) = branch(&i).map(|t| t as usize).filter(|&t| loops && t <= at) {
            if at - to >= furthest {
                furthest = at - to;
                out.looping = to;
            }
        }
        if i.mnemonic() == Mnemonic::Mov
            && i.op1_kind() == OpKind::Immediate64
            && i.immediate64() >> 32 == u64::from(no)
        {
            let n = i.immediate64() as u32 as usize;
            if let Some(e) = out.exits.get_mut(n) {
                e.get_or_insert(block);
            }
        }
        if i.flow_control() != FlowControl::Next {
            block = i.next_ip() as usize;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_in_nasms_words() {
        let text = |code: &[u8], bits| line(code, 0x1000, bits).text;
        assert_eq!(text(&[0x48, 0x8b, 0x46, 0x08], 64).as_deref(), Some("mov rax, [rsi+0x8]"));
        assert_eq!(text(&[0x83, 0x78, 0x04, 0xf3], 64).as_deref(), Some("cmp dword [rax+0x4], -0xd"));
        assert_eq!(text(&[0x40], 32).as_deref(), Some("inc eax"));
        let jump = line(&[0x75, 0xfe], 0x1000, 64);
        assert_eq!((jump.text.as_deref(), jump.branch, jump.last), (Some("jnz 0x1000"), Some(0x1000), false));
        let load = line(&[0xf2, 0x0f, 0x10, 0x05, 8, 0, 0, 0], 0x1000, 64);
        assert_eq!((load.data, load.text.as_deref()), (Some(0x1010), Some("movsd xmm0, [rip+0x8]")));
        assert_eq!(text(&[0x48], 64), None);
    }

    #[test]
    fn the_loop_is_the_jump_that_goes_back_furthest() {
        // nop; nop; jmp $-0 (a walk); jnz 1; mov rdx, 7<<32|1; jmp rax
        let code = [0x90, 0x90, 0xeb, 0xfe, 0x75, 0xfb, 0x48, 0xba, 1, 0, 0, 0, 7, 0, 0, 0, 0xff, 0xe0];
        let p = places(&code, 7, 2, true);
        assert_eq!(p, Places { looping: 1, exits: vec![None, Some(6)] });
        assert_eq!(places(&code, 8, 2, false), Places { looping: 0, exits: vec![None, None] });
    }
}
