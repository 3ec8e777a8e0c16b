//! Memory by device: what is needed, held, budgeted or free. Plain arithmetic, one figure for each device.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};

/// RAM, in the names of devices.
pub const RAM: &str = "cpu";

/// MiB by device: `cpu` is RAM, others have llama.cpp's names such as `CUDA0`. A device that is not named has 0.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Amounts(BTreeMap<String, f64>);

impl Amounts {
    /// So much of one device and nothing of the others.
    pub fn of(device: &str, mb: f64) -> Self {
        Self(BTreeMap::from([(device.to_owned(), mb)]))
    }

    /// So much RAM.
    pub fn ram(mb: f64) -> Self {
        Self::of(RAM, mb)
    }

    /// That of one device.
    pub fn get(&self, device: &str) -> f64 {
        self.0.get(device).copied().unwrap_or(0.0)
    }

    /// Adds to one device.
    pub fn add(&mut self, device: &str, mb: f64) {
        *self.0.entry(device.to_owned()).or_default() += mb;
    }

    /// Over all devices.
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// Whether `room` has as much on every device.
    pub fn fits(&self, room: &Self) -> bool {
        self.short_of(room).is_none()
    }

    /// The first device on which `room` has less.
    pub fn short_of(&self, room: &Self) -> Option<&str> {
        self.0.iter().find(|(device, mb)| **mb > room.get(device)).map(|(device, _)| device.as_str())
    }

    /// The larger of both for each device.
    pub fn larger(&self, other: &Self) -> Self {
        let mut larger = self.clone();
        for (device, mb) in other.iter() {
            let mine = larger.0.entry(device.to_owned()).or_default();
            *mine = mine.max(mb);
        }
        larger
    }

    /// Every device and its figure, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(device, mb)| (device.as_str(), *mb))
    }
}

impl AddAssign<&Amounts> for Amounts {
    fn add_assign(&mut self, other: &Amounts) {
        for (device, mb) in other.iter() {
            self.add(device, mb);
        }
    }
}

impl SubAssign<&Amounts> for Amounts {
    fn sub_assign(&mut self, other: &Amounts) {
        for (device, mb) in other.iter() {
            self.add(device, -mb);
        }
    }
}

impl Sum for Amounts {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        let mut sum = Self::default();
        for each in amounts {
            sum += &each;
        }
        sum
    }
}

impl FromIterator<(String, f64)> for Amounts {
    fn from_iter<I: IntoIterator<Item = (String, f64)>>(figures: I) -> Self {
        let mut amounts = Self::default();
        for (device, mb) in figures {
            amounts.add(&device, mb);
        }
        amounts
    }
}

#[cfg(test)]
mod tests {
    use super::Amounts;

    fn two(cpu: f64, gpu: f64) -> Amounts {
        [("cpu".to_owned(), cpu), ("CUDA0".to_owned(), gpu)].into_iter().collect()
    }

    #[test]
    fn every_device_must_have_room() {
        assert!(two(1.0, 2.0).fits(&two(1.0, 2.0)));
        assert_eq!(two(1.0, 2.0).short_of(&two(1.0, 1.9)), Some("CUDA0"));
        assert_eq!(two(1.0, 2.0).short_of(&Amounts::ram(9.0)), Some("CUDA0"), "a device that is not there has no room");
        assert!(two(1.0, 0.0).fits(&Amounts::ram(1.0)));
    }

    #[test]
    fn arithmetic() {
        let mut sum: Amounts = [two(1.0, 2.0), Amounts::ram(3.0)].into_iter().sum();
        assert_eq!(sum, two(4.0, 2.0));
        sum -= &two(1.0, 3.0);
        assert_eq!((sum.get("cpu"), sum.get("CUDA0"), sum.get("other"), sum.total()), (3.0, -1.0, 0.0, 2.0));
        assert_eq!(two(1.0, 5.0).larger(&two(2.0, 4.0)), two(2.0, 5.0));
    }
}
