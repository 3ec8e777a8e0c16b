//! Finds the end of a JSON object in text that comes in pieces.

/// What is known after a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// More must come.
    Open,
    /// With this byte the object is complete, as far as brackets and strings tell.
    Complete,
    /// It is no object.
    Wrong,
}

/// How far an object has come.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ObjectScan {
    pub(super) fn push(&mut self, byte: u8) -> Scan {
        if self.depth == 0 && byte != b'{' {
            return Scan::Wrong;
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                0..=0x1f => return Scan::Wrong,
                _ => {}
            }
            return Scan::Open;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if self.depth == 0 { Scan::Complete } else { Scan::Open }
    }
}
