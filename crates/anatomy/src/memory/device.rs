//! Devices that models run on, from a table in data (`crates/anatomy/devices.toml`, where each field is explained).

use serde::Deserialize;

use super::GIB;
use crate::atlas::nearest;
use crate::error::{Error, ErrorKind, Result};

const TABLE: &str = include_str!("../../devices.toml");

/// What NVIDIA's driver keeps of a card that shows all of its memory, where no reading is known: the usual value on
/// Linux, in MiB.
const USUALLY_RESERVED: u64 = 480;

/// Something with memory that a model can be loaded to.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// What it is called.
    pub name: String,
    /// Bytes that a program can use.
    pub capacity: u64,
    /// Peak rate of reading its memory in bytes per second, where it is known.
    pub bandwidth: Option<f64>,
    /// Where the figures come from, and what is taken off.
    pub basis: String,
}

/// A row of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What its driver calls it.
    pub name: String,
    /// What people type.
    pub also: Vec<String>,
    /// Who makes it.
    pub vendor: String,
    /// `discrete`, `unified` or `accelerator`.
    pub kind: String,
    /// Nominal memory in GiB.
    pub memory_gib: f64,
    /// Total that the driver shows, in MiB.
    pub visible_mib: Option<u64>,
    /// Part of it that the driver keeps, in MiB.
    pub reserved_mib: Option<u64>,
    /// Where that reading is from.
    pub visible_source: Option<String>,
    /// Share that the GPU may use by default, where memory is shared.
    pub usable: Option<f64>,
    /// The same from macOS 26 on.
    pub usable_macos_26: Option<f64>,
    /// Peak bandwidth in 10^9 bytes per second.
    pub bandwidth_gb_s: Option<f64>,
    /// Where the bandwidth is from.
    pub bandwidth_source: Option<String>,
    /// Year of release.
    pub year: Option<u32>,
    /// Where the row is from.
    pub source: String,
}

#[derive(Deserialize)]
struct Table {
    device: Vec<Known>,
}

/// The whole table. Parsing it takes about a millisecond, so it is done when it is asked for.
///
/// # Errors
/// Where the table that was built in is broken, which a test excludes.
pub fn table() -> Result<Vec<Known>> {
    let table: Table =
        toml::from_str(TABLE).map_err(|error| Error::malformed(format!("the table of devices: {error}")))?;
    Ok(table.device)
}

/// Letters, digits and `+` alone, in lower case.
fn plain(name: &str) -> String {
    let kept = name.chars().filter(|c| c.is_alphanumeric() || *c == '+');
    kept.flat_map(char::to_lowercase).collect()
}

impl Known {
    /// As a device, with what the driver or the system keeps for itself taken off.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "memories are small, positive numbers")]
    pub fn device(&self) -> Device {
        let nominal = (self.memory_gib * GIB as f64).round() as u64;
        let (capacity, basis) = match (self.usable, self.visible_mib) {
            (Some(share), _) => (
                (nominal as f64 * share).floor() as u64,
                format!("{} GiB shared, of which the GPU may use {:.0} % by default", self.memory_gib, share * 100.0),
            ),
            (None, Some(visible)) => {
                let nvidia = if self.vendor == "nvidia" { USUALLY_RESERVED } else { 0 };
                let reserved = self.reserved_mib.unwrap_or(nvidia).min(visible);
                let basis = match reserved {
                    0 => format!("its driver shows {visible} MiB"),
                    _ => format!("its driver shows {visible} MiB and keeps about {reserved}"),
                };
                ((visible - reserved) << 20, basis)
            }
            (None, None) if self.vendor == "nvidia" && self.kind == "discrete" => (
                nominal.saturating_sub(USUALLY_RESERVED << 20),
                format!("{} GiB, of which the driver usually keeps {USUALLY_RESERVED} MiB", self.memory_gib),
            ),
            (None, None) => (nominal, format!("{} GiB nominally; how much is usable is not known", self.memory_gib)),
        };
        Device { name: self.name.clone(), capacity, bandwidth: self.bandwidth_gb_s.map(|rate| rate * 1e9), basis }
    }
}

impl Device {
    /// A device of which only the usable memory is known.
    pub fn of_size(name: impl Into<String>, capacity: u64) -> Self {
        Device { name: name.into(), capacity, bandwidth: None, basis: "as given".into() }
    }

    /// The device or devices of a name such as `RTX 4090`, `m3max-64` or `2xH100`.
    ///
    /// # Errors
    /// Where the table has no such device; the nearest is named.
    pub fn named(text: &str) -> Result<Vec<Self>> {
        let (count, name) = counted(text);
        let rows = table()?;
        let wanted = plain(name);
        let all = |row: &Known| {
            std::iter::once(row.name.as_str())
                .chain(row.also.iter().map(String::as_str))
                .any(|name| plain(name) == wanted)
        };
        if let Some(row) = rows.iter().find(|row| all(row)) {
            return Ok(vec![row.device(); count]);
        }
        let names =
            rows.iter().flat_map(|row| std::iter::once(row.name.as_str()).chain(row.also.iter().map(String::as_str)));
        let holding: Vec<&str> = rows
            .iter()
            .map(|row| row.name.as_str())
            .filter(|name| !wanted.is_empty() && plain(name).contains(&wanted))
            .collect();
        let help = match (holding.as_slice(), nearest(&name.to_lowercase(), names)) {
            ([_, ..], _) => {
                let shown: Vec<&str> = holding.iter().take(6).copied().collect();
                format!("several are called like that: {}", shown.join(", "))
            }
            ([], Some(near)) => format!("did you mean {near}? Any size works as --vram, such as --vram 24GiB"),
            ([], None) => "give its memory instead, such as --vram 24GiB".to_string(),
        };
        let shown: String = name.chars().take(60).collect();
        Err(Error::new(ErrorKind::Usage, format!("no device is called `{shown}`")).help(help))
    }
}

/// `2xH100` is two of them.
fn counted(text: &str) -> (usize, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    match (number.parse::<usize>(), rest.strip_prefix(['x', 'X', '×', '*'])) {
        (Ok(count @ 1..=1024), Some(name)) if !name.is_empty() => (count, name.trim()),
        _ => (1, text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        let rows = table().unwrap();
        assert!(rows.len() >= 150, "{}", rows.len());
        let mut names: HashMap<String, &str> = HashMap::new();
        for row in &rows {
            let mut own = vec![plain(&row.name)];
            own.extend(row.also.iter().map(|name| plain(name)));
            own.sort();
            own.dedup();
            for name in own {
                assert!(names.insert(name.clone(), &row.name).is_none(), "{name} is twice");
            }
            assert!(row.memory_gib > 0.1 && row.memory_gib < 2000.0, "{}", row.name);
            assert!(row.usable.is_none_or(|share| share > 0.3 && share <= 1.0), "{}", row.name);
            assert!(!row.source.is_empty(), "{} has no source", row.name);
            let device = row.device();
            let nominal = row.memory_gib * GIB as f64;
            assert!(device.capacity as f64 <= nominal * 1.001 && device.capacity > 0, "{}", row.name);
        }
    }

    #[test]
    fn people_find_their_card() {
        assert_eq!(Device::named("RTX 4090").unwrap().len(), 1);
        assert_eq!(Device::named("rtx-4090").unwrap(), Device::named("4090").unwrap());
        assert_eq!(Device::named("2xH100").unwrap().len(), 2);
        assert_eq!(Device::named("8 x h200").unwrap().len(), 8);
        // CUDA shows between 24,080 and 24,210 MiB of a 4090.
        let card = Device::named("4090").unwrap().remove(0);
        assert!((23_900..24_220).contains(&(card.capacity >> 20)), "{}", card.capacity >> 20);
        let error = Device::named("rtx 4900").unwrap_err();
        assert!(error.to_string().contains("4900"), "{error}");
    }
}
