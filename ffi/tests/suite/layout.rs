//! Layout equals the C compiler's: random records are declared here and compiled with `cc`, and sizes, alignments, offsets
//! and the very bits of bit fields are compared.

use moonlit_ffi::cparse::declare;
use moonlit_ffi::ctype::{CTypeId, CTypeTable, Member};
use std::fmt::Write as _;
use std::process::Command;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct Field {
    name: String,
    is_bits: bool,
}

struct Record {
    tag: String,
    fields: Vec<Field>,
}

const SCALARS: &[(&str, u32)] = &[
    ("char", 8),
    ("short", 16),
    ("int", 32),
    ("long long", 64),
    ("unsigned char", 8),
    ("unsigned short", 16),
    ("unsigned int", 32),
    ("unsigned long", 64),
    ("bool", 1),
    ("float", 0),
    ("double", 0),
    ("long double", 0),
    ("void *", 0),
    ("double complex", 0),
    ("float complex", 0),
    ("enum color", 32),
    ("char *", 0),
];

fn members(r: &mut Random, out: &mut String, fields: &mut Vec<Field>, records: &[Record], depth: u32) {
    for _ in 0..1 + r.below(6) {
        let name = format!("m{}", fields.len());
        let (ty, bits) = SCALARS[r.below(SCALARS.len())];
        match r.below(10) {
            0..=3 if bits > 0 => {
                if r.chance(15) {
                    let width = if r.chance(50) { 0 } else { 1 + r.below(bits as usize) };
                    writeln!(out, "{ty} : {width};").expect("writing to a string");
                    continue;
                }
                let width = 1 + r.below(bits as usize);
                let attr = if r.chance(8) { " __attribute__((packed))" } else { "" };
                writeln!(out, "{ty} {name} : {width}{attr};").expect("writing to a string");
                fields.push(Field { name, is_bits: true });
                continue;
            }
            4 if depth < 2 => {
                let kind = if r.chance(50) { "struct" } else { "union" };
                writeln!(out, "{kind} {{").expect("writing to a string");
                members(r, out, fields, records, depth + 1);
                let attr = if r.chance(20) { " __attribute__((packed))" } else { "" };
                writeln!(out, "}}{attr};").expect("writing to a string");
                continue;
            }
            5 if !records.is_empty() => {
                let inner = &records[r.below(records.len())].tag;
                writeln!(out, "struct {inner} {name};").expect("writing to a string");
            }
            6 => writeln!(out, "{ty} {name}[{}];", 1 + r.below(5)).expect("writing to a string"),
            7 => {
                let attr = ["packed", "aligned(2)", "aligned(8)", "aligned(32)", "aligned"][r.below(5)];
                writeln!(out, "{ty} {name} __attribute__(({attr}));").expect("writing to a string");
            }
            _ => writeln!(out, "{ty} {name};").expect("writing to a string"),
        }
        fields.push(Field { name, is_bits: false });
    }
}

/// Declarations of `count` records.
fn generate(r: &mut Random, count: usize) -> (String, Vec<Record>) {
    let mut source = String::from("enum color { RED, GREEN };\n");
    let mut records = Vec::new();
    for i in 0..count {
        let pragma = r.chance(15);
        if pragma {
            writeln!(source, "#pragma pack(push, {})", [1, 2, 4, 8, 16][r.below(5)])
                .expect("writing to a string");
        }
        let attr = match r.below(8) {
            0 => "__attribute__((packed))",
            1 => "__attribute__((aligned(16)))",
            2 => "__attribute__((packed, aligned(4)))",
            _ => "",
        };
        let tag = format!("r{i}");
        writeln!(source, "struct {attr} {tag} {{").expect("writing to a string");
        let mut fields = Vec::new();
        members(r, &mut source, &mut fields, &records, 0);
        source.push_str("};\n");
        if pragma {
            source.push_str("#pragma pack(pop)\n");
        }
        records.push(Record { tag, fields });
    }
    (source, records)
}

/// A C program that prints what the compiler made of the records.
fn program(source: &str, records: &[Record]) -> String {
    let mut c = format!(
        "#include <stdio.h>\n#include <stddef.h>\n#include <string.h>\n#include <stdbool.h>\n#include <complex.h>\n{source}\n\
         static unsigned char buf[65536] __attribute__((aligned(64)));\n\
         static void show(size_t n) {{ size_t lo = 0, hi, i; n *= 8; for (i = 0; i < n && !(buf[i/8] >> (i%8) & 1); i++); lo = i;\n\
           for (hi = i; hi < n && buf[hi/8] >> (hi%8) & 1; hi++); printf(\" %zu+%zu\", lo, hi - lo); }}\nint main(void) {{\n"
    );
    for record in records {
        let tag = &record.tag;
        writeln!(c, "printf(\"{tag} %zu %zu\", sizeof(struct {tag}), _Alignof(struct {tag}));")
            .expect("string");
        for field in &record.fields {
            let name = &field.name;
            if field.is_bits {
                writeln!(
                    c,
                    "memset(buf, 0, sizeof buf); ((struct {tag} *)buf)->{name} = -1; show(sizeof(struct {tag}));"
                )
            } else {
                writeln!(c, "printf(\" %zu\", offsetof(struct {tag}, {name}));")
            }
            .expect("string");
        }
        c.push_str("printf(\"\\n\");\n");
    }
    c.push_str("return 0; }\n");
    c
}

fn ours(table: &CTypeTable, record: &Record) -> String {
    let id: CTypeId = table.tag(record.tag.as_bytes()).expect("declared");
    let layout = table.layout(id);
    let mut line = format!("{} {} {}", record.tag, layout.size.expect("complete"), 1 << layout.align_log2);
    for field in &record.fields {
        match table.member(id, field.name.as_bytes()).expect("declared") {
            Member::Field { offset, bits: Some(bits), .. } => {
                write!(line, " {}+{}", offset * 8 + u32::from(bits.pos), bits.width)
            }
            Member::Field { offset, .. } => write!(line, " {offset}"),
            Member::Const(_) => panic!("not a constant"),
        }
        .expect("string");
    }
    line
}

#[test]
fn random_records_are_laid_out_as_by_the_c_compiler() {
    let mut r = Random(0x2545_f491_4f6c_dd1d);
    let (source, records) = generate(&mut r, 400);
    let mut table = CTypeTable::default();
    declare(&mut table, source.as_bytes(), &[]).unwrap_or_else(|e| panic!("{e}"));

    let dir = std::env::temp_dir().join(format!("moonlit-layout-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let (c, exe) = (dir.join("layout.c"), dir.join("layout"));
    std::fs::write(&c, program(&source, &records)).expect("a temporary file");
    let built = Command::new("cc").args(["-w", "-O0", "-o"]).arg(&exe).arg(&c).status();
    let Ok(status) = built else {
        eprintln!("skipped: no C compiler");
        return;
    };
    assert!(status.success(), "cc refused {}", c.display());
    let out = Command::new(&exe).output().expect("just built");
    let text = String::from_utf8(out.stdout).expect("ASCII");
    let mut differences = String::new();
    for (line, record) in text.lines().zip(&records) {
        let mine = ours(&table, record);
        if mine != line {
            let start = source.find(&format!(" {} {{", record.tag)).expect("declared");
            let end = source[start..].find("\nstruct").map_or(source.len(), |n| start + n);
            writeln!(differences, "ours {mine}\ncc   {line}\n{}", &source[start..end]).expect("string");
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    assert!(differences.is_empty(), "\n{differences}");
    assert_eq!(text.lines().count(), records.len());
}
