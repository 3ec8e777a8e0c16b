//! Blocks of quantized weights with random content. Their scale is such that a row of `n` weights has a spread of `1/sqrt(n)`: what goes
//! through a matrix keeps its size, and every logit is finite.

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names of ggml's types")]
pub(super) enum Kind {
    /// Every value is 1, as 32-bit numbers.
    One,
    /// 32 weights: a scale and bytes.
    Q8_0,
    /// 256 weights in 8 groups: scale and minimum, 4 bits each.
    Q4_K,
    /// 256 weights in 16 groups: a scale, 6 bits each.
    Q6_K,
}

impl Kind {
    /// Its number in a GGUF file.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Q8_0 => 8,
            Self::Q4_K => 12,
            Self::Q6_K => 14,
        }
    }

    fn block(self) -> (u64, u64) {
        match self {
            Self::One => (1, 4),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q6_K => (256, 210),
        }
    }

    /// Bytes of a row of `columns` weights.
    pub(super) fn row_bytes(self, columns: u64) -> u64 {
        let (weights, bytes) = self.block();
        columns / weights * bytes
    }

    /// Adds a row of `columns` weights to `row`.
    pub(super) fn fill(self, columns: u64, random: &mut Random, row: &mut Vec<u8>) {
        let spread = 1.0 / (columns as f32).sqrt();
        for _ in 0..columns / self.block().0 {
            match self {
                Self::One => row.extend_from_slice(&1.0f32.to_le_bytes()),
                Self::Q8_0 => {
                    // A random byte spreads by 73.9.
                    row.extend_from_slice(&half(spread / 73.9));
                    random.fill(32, row);
                }
                Self::Q4_K => {
                    // Each group: scale 32 times a number of 0 to 15, which spreads by 4.61 around 7.5; the minimum takes that away.
                    let scale = spread / (32.0 * 4.61);
                    row.extend_from_slice(&half(scale));
                    row.extend_from_slice(&half(scale * 7.5));
                    row.extend_from_slice(&[160, 160, 160, 160, 160, 160, 160, 160, 0, 0, 0, 0]);
                    random.fill(128, row);
                }
                Self::Q6_K => {
                    // Each group: scale 4 times a number of -32 to 31, which spreads by 18.5.
                    random.fill(128 + 64, row);
                    row.extend_from_slice(&[4; 16]);
                    row.extend_from_slice(&half(spread / (4.0 * 18.5)));
                }
            }
        }
    }
}

/// A 16-bit float nearest to a positive number below 65,504.
fn half(value: f32) -> [u8; 2] {
    let exponent = value.log2().floor().max(-14.0);
    let steps = (value / (exponent - 10.0).exp2()).round() as u16;
    // For a normal number `steps` has its leading bit at 1024, which the exponent field accounts for.
    let biased = (exponent as i16 + 15) as u16;
    ((biased - 1) * 1024 + steps).to_le_bytes()
}

/// Random bytes from a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Adds `count` bytes, a multiple of 8.
    fn fill(&mut self, count: usize, row: &mut Vec<u8>) {
        for _ in 0..count / 8 {
            row.extend_from_slice(&self.next().to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_those_of_ieee() {
        for (value, bits) in [(1.0, 0x3C00), (0.5, 0x3800), (1.5, 0x3E00), (6.103_515_6e-5, 0x0400), (5.96e-8, 0x0001)]
        {
            assert_eq!(u16::from_le_bytes(half(value)), bits, "{value}");
        }
    }

    #[test]
    fn rows_are_as_long_as_they_say() {
        for kind in [Kind::One, Kind::Q8_0, Kind::Q4_K, Kind::Q6_K] {
            let mut row = Vec::new();
            kind.fill(512, &mut Random::new(3), &mut row);
            assert_eq!(row.len() as u64, kind.row_bytes(512), "{kind:?}");
        }
    }
}
