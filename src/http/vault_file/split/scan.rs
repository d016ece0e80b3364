//! Finds where a JSON value ends, however its bytes come, without a look at whether it is sound.

/// How to find the end of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// How many brackets are open.
    open: usize,
    quoted: bool,
    escaped: bool,
}

impl Scan {
    /// Before the value.
    pub const START: Self = Self {
        open: 0,
        quoted: false,
        escaped: false,
    };

    /// How many of the bytes belong to the value, if it ends in them. `begun`: some came before.
    pub fn end(&mut self, bytes: &[u8], begun: bool) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if self.quoted {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.quoted = false;
                        if self.open == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' if self.open > 0 || (at == 0 && !begun) => self.open += 1,
                b'"' if self.open > 0 || (at == 0 && !begun) => self.quoted = true,
                b'}' | b']' if self.open > 0 => {
                    self.open -= 1;
                    if self.open == 0 {
                        return Some(at + 1);
                    }
                }
                // A number or a word ends before what cannot be within one.
                b',' | b'}' | b']' | b'{' | b'[' | b'"' | b':' | b' ' | b'\t' | b'\r' | b'\n'
                    if self.open == 0 =>
                {
                    return Some(at);
                }
                _ => {}
            }
        }
        None
    }
}
