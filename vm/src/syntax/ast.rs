//! The syntax tree: flat pools of nodes addressed by index, so that a deep tree neither grows nor
//! drops by recursion. Knows no bytecode.
//!
//! Places are token numbers ([`Tok`]): `Ast::lines` gives the line, and since tokens are numbered
//! consecutively the neighbours of a place are known too (a comma follows the expression it ends).
//!
//! A chunk is parsed and compiled some of its outermost statements at a time, so a tree is seldom large.

use super::hash::Seed;

/// Number of a token in its chunk, from 0.
pub type Tok = u32;

/// An interned name or string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct StrId(pub u32);

/// Names and strings of a chunk, each once, in order of appearance.
#[derive(Debug, Default)]
pub struct StrPool {
    bytes: Vec<u8>,
    /// End of each string in `bytes`, and its hash.
    ends: Vec<(usize, u32)>,
    /// Open addressing: string number plus one, 0 if free. The size is a power of two.
    table: Vec<u32>,
    seed: Seed,
}

impl StrPool {
    /// The id of `bytes`, new or known.
    pub fn intern(&mut self, bytes: &[u8]) -> StrId {
        let hash = (self.seed.bytes(bytes) >> 32) as u32;
        if self.table.is_empty() {
            self.table = vec![0; 64];
        }
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(n) = self.table[at].checked_sub(1) {
            if self.ends[n as usize].1 == hash && self.get(StrId(n)) == bytes {
                return StrId(n);
            }
            at = (at + 1) & mask;
        }
        let id = self.ends.len() as u32;
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len(), hash));
        self.table[at] = id + 1;
        if self.ends.len() * 2 > self.table.len() {
            self.grow();
        }
        StrId(id)
    }

    #[cold]
    fn grow(&mut self) {
        let size = self.table.len() * 4;
        self.table = vec![0; size];
        for (n, &(_, hash)) in self.ends.iter().enumerate() {
            let mut at = hash as usize & (size - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = n as u32 + 1;
        }
    }

    /// Empty, with the memory it had. A table that was much larger than needed is given back: it would have to be
    /// cleared each time.
    fn clear(&mut self) {
        if self.table.len() > 64 && self.table.len() > self.ends.len() * 16 {
            self.table = vec![0; 64];
        } else {
            self.table.fill(0);
        }
        self.bytes.clear();
        self.ends.clear();
    }

    /// The bytes of a string.
    pub fn get(&self, id: StrId) -> &[u8] {
        let n = id.0 as usize;
        let start = if n == 0 { 0 } else { self.ends[n - 1].0 };
        &self.bytes[start..self.ends[n].0]
    }
}

macro_rules! node_ids {
    ($( $(#[$doc:meta])* $name:ident; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name(pub u32);
    )* };
}

node_ids! {
    /// An expression.
    ExprId;
    /// A function.
    FuncId;
}

/// A run of nodes in one of the pools.
#[derive(Debug, PartialEq, Eq)]
pub struct List<T> {
    /// First index.
    pub start: u32,
    /// How many.
    pub len: u32,
    kind: std::marker::PhantomData<T>,
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<T> {}

impl<T> List<T> {
    /// A run of no nodes.
    pub const EMPTY: List<T> = List { start: 0, len: 0, kind: std::marker::PhantomData };

    /// Moves `items` to the end of their pool.
    pub fn append(pool: &mut Vec<T>, items: impl IntoIterator<Item = T>) -> List<T> {
        let start = pool.len() as u32;
        pool.extend(items);
        let len = pool.len() as u32 - start;
        List { start, len, kind: std::marker::PhantomData }
    }

    /// What was appended to a pool since it had `start` nodes.
    pub fn since(pool: &[T], start: usize) -> List<T> {
        List { start: start as u32, len: (pool.len() - start) as u32, kind: std::marker::PhantomData }
    }

    /// The first `len` nodes of a run.
    pub fn first(list: List<T>, len: u32) -> List<T> {
        List { len: len.min(list.len), ..list }
    }

    /// Indices into the pool.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// Unary operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnOp {
    /// `-`
    Neg,
    /// `not`, `!`
    Not,
    /// `#`
    Len,
    /// `~`
    BitNot,
}

/// Binary operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Concat,
    Ne,
    Eq,
    Lt,
    Ge,
    Le,
    Gt,
    And,
    Or,
    /// `??`
    Coalesce,
    BitAnd,
    BitOr,
    BitXor,
    Shl,
    Shr,
    Sar,
}

/// An expression node.
#[derive(Clone, Copy, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its last token.
    pub end: Tok,
}

/// Kinds of expressions.
#[derive(Clone, Copy, Debug)]
pub enum ExprKind {
    /// `nil`
    Nil,
    /// `true`
    True,
    /// `false`
    False,
    /// `...`
    Vararg,
    /// A number.
    Number(f64),
    /// `1LL`
    Int64(i64),
    /// `1ULL`
    UInt64(u64),
    /// `1i`
    Imag(f64),
    /// A string.
    Str(StrId),
    /// A variable.
    Name(StrId),
    /// A function.
    Function(FuncId),
    /// A parenthesised expression.
    Paren(ExprId),
    /// A table constructor.
    Table {
        /// Items.
        fields: List<Field>,
        /// The opening brace.
        open: Tok,
    },
    /// A unary operation.
    Unary {
        /// Operator.
        op: UnOp,
        /// Operand.
        operand: ExprId,
    },
    /// A binary operation. Chains of left-associative ones nest in `lhs`, to any depth.
    Binary {
        /// Operator.
        op: BinOp,
        /// Its token.
        op_tok: Tok,
        /// Left operand.
        lhs: ExprId,
        /// Right operand.
        rhs: ExprId,
    },
    /// `cond ? yes : no`
    Conditional {
        /// Condition.
        cond: ExprId,
        /// Value if it holds.
        yes: ExprId,
        /// Value otherwise.
        no: ExprId,
    },
    /// A name or parenthesised expression with indexing and calls.
    Suffixed {
        /// What they apply to.
        base: ExprId,
        /// One or more, in order.
        suffixes: List<Suffix>,
    },
}

/// One step of a [`ExprKind::Suffixed`].
#[derive(Clone, Copy, Debug)]
pub struct Suffix {
    /// What it does.
    pub kind: SuffixKind,
    /// Introduced by `?.`: the step is skipped, with result nil, when what it applies to is nil.
    pub safe: bool,
    /// First token (the `.`, `[`, `:`, `?.` or first token of the arguments).
    pub start: Tok,
    /// Last token.
    pub end: Tok,
}

/// Kinds of suffixes.
#[derive(Clone, Copy, Debug)]
pub enum SuffixKind {
    /// `.name`
    Field(StrId),
    /// `[key]`
    Index(ExprId),
    /// `(args)`
    Call(Args),
    /// `:name(args)`
    Method {
        /// Name.
        name: StrId,
        /// Its token.
        name_tok: Tok,
        /// `:name?.(args)`: the call is skipped when the method is nil.
        safe: bool,
        /// Arguments.
        args: Args,
    },
}

/// Arguments of a call.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    /// Expressions.
    pub list: List<ExprId>,
    /// First token: `(`, or the string or `{` of a call without parentheses.
    pub open: Tok,
}

/// One item of a table constructor.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Key.
    pub key: FieldKey,
    /// Value.
    pub value: ExprId,
    /// The separator or `}` that follows.
    pub end: Tok,
}

/// Kinds of keys in a table constructor.
#[derive(Clone, Copy, Debug)]
pub enum FieldKey {
    /// No key: the next array index.
    Position,
    /// `name =`; the place is that of the name.
    Name(StrId, Tok),
    /// `[key] =`
    Expr(ExprId),
}

/// A function: its parameters and body.
#[derive(Clone, Copy, Debug)]
pub struct Func {
    /// Parameters, without `self`.
    pub params: List<StrId>,
    /// Has a `self` parameter in front.
    pub is_method: bool,
    /// Ends its parameters with `...`.
    pub is_vararg: bool,
    /// Body; for `-> expr`, one return statement.
    pub body: Block,
    /// Line of the definition.
    pub line: u32,
    /// The token before the body.
    pub head_end: Tok,
    /// Body of the form `-> expr`.
    pub is_expr: bool,
    /// The parser stopped at an error before its end.
    pub truncated: bool,
    /// The final `end`, or the last token of the expression body.
    pub end: Tok,
}

/// A block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Statements.
    pub stats: List<Stat>,
}

/// A statement.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: StatKind,
    /// First token.
    pub start: Tok,
    /// Last token, without a semicolon.
    pub end: Tok,
    /// The semicolon after it, or [`Self::end`].
    pub next: Tok,
}

/// One condition of an `if` and its block.
#[derive(Clone, Copy, Debug)]
pub struct IfArm {
    /// Condition.
    pub cond: ExprId,
    /// Block.
    pub body: Block,
    /// Last token of the block, or `then` if it is empty.
    pub end: Tok,
}

/// Kinds of statements.
#[derive(Clone, Copy, Debug)]
pub enum StatKind {
    /// `;` alone.
    Empty,
    /// `local names = exprs`, `const names = exprs`
    Local {
        /// Names.
        names: List<StrId>,
        /// The last name.
        names_end: Tok,
        /// Values, maybe none.
        exprs: List<ExprId>,
        /// Declared by `const`.
        is_const: bool,
    },
    /// `local function name`, `const function name`
    LocalFunction {
        /// Name.
        name: StrId,
        /// Its token.
        name_tok: Tok,
        /// Function.
        func: FuncId,
        /// Declared by `const`.
        is_const: bool,
    },
    /// `function a.b:c`
    Function {
        /// The variable or field assigned to.
        target: ExprId,
        /// Function.
        func: FuncId,
    },
    /// `targets = exprs`
    Assign {
        /// Variables and fields.
        targets: List<ExprId>,
        /// Values.
        exprs: List<ExprId>,
    },
    /// `target op= value`
    Compound {
        /// Variable or field.
        target: ExprId,
        /// Operator.
        op: BinOp,
        /// Its token.
        op_tok: Tok,
        /// Right operand.
        value: ExprId,
    },
    /// A call.
    Call(ExprId),
    /// `do ... end`
    Do(Block),
    /// `while`
    While {
        /// Condition.
        cond: ExprId,
        /// Block.
        body: Block,
    },
    /// `repeat`
    Repeat {
        /// Block.
        body: Block,
        /// Condition, inside the scope of the block.
        cond: ExprId,
        /// The `until`.
        until: Tok,
    },
    /// `if`
    If {
        /// Conditions and blocks, at least one.
        arms: List<IfArm>,
        /// The `else` block.
        otherwise: Option<Block>,
    },
    /// `for v = a, b, c`
    ForNum {
        /// Variable.
        var: StrId,
        /// Its token.
        var_tok: Tok,
        /// Start, limit and maybe step.
        range: List<ExprId>,
        /// Block.
        body: Block,
    },
    /// `for names in exprs`
    ForIn {
        /// Variables.
        names: List<StrId>,
        /// First of them.
        names_start: Tok,
        /// Iterator, state, control.
        exprs: List<ExprId>,
        /// The first token after `in`.
        exprs_start: Tok,
        /// Block.
        body: Block,
    },
    /// `return exprs`
    Return(List<ExprId>),
    /// `break`
    Break,
    /// `continue`
    Continue,
    /// `goto name`
    Goto(StrId),
    /// `::name::`
    Label {
        /// Name.
        name: StrId,
        /// Only labels and `;` follow in its block, which does not end in `until`.
        is_last: bool,
    },
}

/// Lines on which tokens end, from some token on.
#[derive(Debug, Default)]
pub struct Lines {
    first: Tok,
    lines: Vec<u32>,
}

impl Lines {
    /// That of the next token.
    pub fn push(&mut self, line: u32) {
        self.lines.push(line);
    }

    /// That of a known token.
    pub fn set(&mut self, tok: Tok, line: u32) {
        if let Some(at) = self.lines.get_mut(tok.wrapping_sub(self.first) as usize) {
            *at = line;
        }
    }

    /// The line of a token; the last one known for a later token.
    pub fn get(&self, tok: Tok) -> u32 {
        self.lines.get(tok.wrapping_sub(self.first) as usize).or(self.lines.last()).copied().unwrap_or(1)
    }

    /// Forgets the tokens before one of those known.
    pub fn forget_before(&mut self, tok: Tok) {
        let n = tok.saturating_sub(self.first) as usize;
        self.lines.drain(..n.min(self.lines.len()));
        self.first = self.first.max(tok);
    }

    fn clear(&mut self) {
        self.first = 0;
        self.lines.clear();
    }
}

/// A parsed chunk, or some statements of it.
#[derive(Debug, Default)]
pub struct Ast {
    /// Names and strings.
    pub strings: StrPool,
    /// Expressions.
    pub exprs: Vec<Expr>,
    /// Lists of expressions.
    pub expr_lists: Vec<ExprId>,
    /// Lists of names.
    pub name_lists: Vec<StrId>,
    /// Suffixes.
    pub suffixes: Vec<Suffix>,
    /// Table items.
    pub fields: Vec<Field>,
    /// Functions.
    pub funcs: Vec<Func>,
    /// Statements.
    pub stats: Vec<Stat>,
    /// Arms of `if`s.
    pub arms: Vec<IfArm>,
    /// Line on which each token ends, the final `<eof>` included.
    pub lines: Lines,
}

impl Ast {
    /// Forgets the chunk and keeps the memory.
    pub fn clear(&mut self) {
        self.strings.clear();
        self.clear_nodes();
        self.lines.clear();
    }

    /// Forgets the nodes; names and lines stay known.
    pub fn clear_nodes(&mut self) {
        self.exprs.clear();
        self.expr_lists.clear();
        self.name_lists.clear();
        self.suffixes.clear();
        self.fields.clear();
        self.funcs.clear();
        self.stats.clear();
        self.arms.clear();
    }

    /// How many nodes there are: expressions and statements.
    pub fn nodes(&self) -> usize {
        self.exprs.len() + self.stats.len()
    }

    /// Bytes its pools hold, used or not.
    pub fn capacity_bytes(&self) -> usize {
        fn of<T>(v: &Vec<T>) -> usize {
            v.capacity() * std::mem::size_of::<T>()
        }
        of(&self.strings.bytes)
            + of(&self.strings.ends)
            + of(&self.strings.table)
            + of(&self.exprs)
            + of(&self.expr_lists)
            + of(&self.name_lists)
            + of(&self.suffixes)
            + of(&self.fields)
            + of(&self.funcs)
            + of(&self.stats)
            + of(&self.arms)
            + of(&self.lines.lines)
    }

    /// A node.
    pub fn expr(&self, id: ExprId) -> Expr {
        self.exprs[id.0 as usize]
    }

    /// A function.
    pub fn func(&self, id: FuncId) -> Func {
        self.funcs[id.0 as usize]
    }

    /// Line on which a token ends.
    pub fn line(&self, tok: Tok) -> u32 {
        self.lines.get(tok)
    }
}
