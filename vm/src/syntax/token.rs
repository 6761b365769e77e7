//! Tokens. Blanks, comments, strings, long brackets and numbers are cut by the lexer itself; names,
//! reserved words and operators by the generated automaton.

use logos::Logos;

macro_rules! tokens {
    ($( $(#[$attr:meta])* $name:ident = $text:literal; )*) => {
        /// Kind of a token.
        #[derive(Logos, Clone, Copy, PartialEq, Eq, Debug)]
        #[logos(utf8 = false)]
        pub enum Token {
            $( $(#[$attr])* #[doc = concat!("`", $text, "`")] $name, )*
            /// A name.
            #[regex(b"[a-zA-Z_\\x80-\\xff][a-zA-Z0-9_\\x80-\\xff]*")]
            Name,
            /// A string literal.
            String,
            /// A number literal, with or without suffix.
            Number,
            /// End of the source.
            Eof,
            /// A byte that starts no token.
            Other(u8),
        }

        impl Token {
            /// The token as messages show it, for those whose text does not vary.
            pub fn text(self) -> Option<&'static str> {
                match self {
                    $( Token::$name => Some($text), )*
                    Token::Name => Some("<name>"),
                    Token::String => Some("<string>"),
                    Token::Number => Some("<number>"),
                    Token::Eof => Some("<eof>"),
                    Token::Other(_) => None,
                }
            }
        }
    };
}

tokens! {
    #[token(b"and")] And = "and";
    #[token(b"break")] Break = "break";
    #[token(b"do")] Do = "do";
    #[token(b"else")] Else = "else";
    #[token(b"elseif")] Elseif = "elseif";
    #[token(b"end")] End = "end";
    #[token(b"false")] False = "false";
    #[token(b"for")] For = "for";
    #[token(b"function")] Function = "function";
    #[token(b"goto")] Goto = "goto";
    #[token(b"if")] If = "if";
    #[token(b"in")] In = "in";
    #[token(b"local")] Local = "local";
    #[token(b"nil")] Nil = "nil";
    #[token(b"not")] Not = "not";
    #[token(b"or")] Or = "or";
    #[token(b"repeat")] Repeat = "repeat";
    #[token(b"return")] Return = "return";
    #[token(b"then")] Then = "then";
    #[token(b"true")] True = "true";
    #[token(b"until")] Until = "until";
    #[token(b"while")] While = "while";
    #[token(b"..")] Concat = "..";
    #[token(b"...")] Dots = "...";
    #[token(b"==")] EqEq = "==";
    #[token(b">=")] Ge = ">=";
    #[token(b"<=")] Le = "<=";
    #[token(b"~=")] Ne = "~=";
    #[token(b"::")] DoubleColon = "::";
    #[token(b"+")] Plus = "+";
    #[token(b"-")] Minus = "-";
    #[token(b"*")] Star = "*";
    #[token(b"/")] Slash = "/";
    #[token(b"%")] Percent = "%";
    #[token(b"^")] Caret = "^";
    #[token(b"#")] Hash = "#";
    #[token(b"<")] Lt = "<";
    #[token(b">")] Gt = ">";
    #[token(b"=")] Assign = "=";
    #[token(b"(")] LParen = "(";
    #[token(b")")] RParen = ")";
    #[token(b"{")] LBrace = "{";
    #[token(b"}")] RBrace = "}";
    #[token(b"[")] LBracket = "[";
    #[token(b"]")] RBracket = "]";
    #[token(b";")] Semicolon = ";";
    #[token(b":")] Colon = ":";
    #[token(b",")] Comma = ",";
    #[token(b".")] Dot = ".";
    // Extensions, see `is_extension`.
    #[token(b"&")] Amp = "&";
    #[token(b"&&")] AmpAmp = "&&";
    #[token(b"|")] Pipe = "|";
    #[token(b"||")] PipePipe = "||";
    #[token(b"~")] Tilde = "~";
    #[token(b"!")] Bang = "!";
    #[token(b"!=")] BangEq = "!=";
    #[token(b"<<")] Shl = "<<";
    #[token(b">>")] Shr = ">>";
    #[token(b"~>>")] Sar = "~>>";
    #[token(b"?")] Question = "?";
    #[token(b"?.")] QuestionDot = "?.";
    #[token(b"??")] QuestionQuestion = "??";
    #[token(b"->")] Arrow = "->";
    #[token(b"+=")] PlusEq = "+=";
    #[token(b"-=")] MinusEq = "-=";
    #[token(b"*=")] StarEq = "*=";
    #[token(b"/=")] SlashEq = "/=";
    #[token(b"%=")] PercentEq = "%=";
    #[token(b"&=")] AmpEq = "&=";
    #[token(b"|=")] PipeEq = "|=";
    #[token(b"<<=")] ShlEq = "<<=";
    #[token(b">>=")] ShrEq = ">>=";
    #[token(b"~>>=")] SarEq = "~>>=";
    #[token(b"..=")] ConcatEq = "..=";
}

impl Token {
    /// Whether the token exists only with the extensions.
    pub fn is_extension(self) -> bool {
        use Token::*;
        matches!(
            self,
            Amp | AmpAmp
                | Pipe
                | PipePipe
                | Tilde
                | Bang
                | BangEq
                | Shl
                | Shr
                | Sar
                | Question
                | QuestionDot
                | QuestionQuestion
                | Arrow
                | PlusEq
                | MinusEq
                | StarEq
                | SlashEq
                | PercentEq
                | AmpEq
                | PipeEq
                | ShlEq
                | ShrEq
                | SarEq
                | ConcatEq
        )
    }

    /// The operator a compound assignment token applies, if it is one.
    pub fn compound_operator(self) -> Option<super::ast::BinOp> {
        use super::ast::BinOp;
        Some(match self {
            Token::PlusEq => BinOp::Add,
            Token::MinusEq => BinOp::Sub,
            Token::StarEq => BinOp::Mul,
            Token::SlashEq => BinOp::Div,
            Token::PercentEq => BinOp::Mod,
            Token::ConcatEq => BinOp::Concat,
            Token::AmpEq => BinOp::BitAnd,
            Token::PipeEq => BinOp::BitOr,
            Token::Ne => BinOp::BitXor,
            Token::ShlEq => BinOp::Shl,
            Token::ShrEq => BinOp::Shr,
            Token::SarEq => BinOp::Sar,
            _ => return None,
        })
    }
}
