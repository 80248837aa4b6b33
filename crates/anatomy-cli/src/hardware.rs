//! What this machine has: read where the system shows it, without asking a driver to be there.

use std::fs;
use std::path::Path;

use anatomy::memory::Device;
use anatomy::{Error, ErrorKind};
use nvml_wrapper::Nvml;

/// Bytes of main memory.
pub fn main_memory() -> Option<u64> {
    if let Ok(text) = fs::read_to_string("/proc/meminfo") {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let number: u64 = line.split_whitespace().next()?.parse().ok()?;
        return number.checked_mul(1024);
    }
    sysctl("hw.memsize")?.parse().ok()
}

/// A value of macOS's `sysctl`.
fn sysctl(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string()).filter(|value| !value.is_empty())
}

/// Devices of this machine.
///
/// # Errors
/// Where none is found.
pub fn devices() -> Result<Vec<Device>, Error> {
    let mut found = nvidia().unwrap_or_default();
    found.extend(amd());
    found.extend(apple());
    if found.is_empty() {
        let message = "no device was found on this machine";
        return Err(
            Error::new(ErrorKind::NotFound, message).help("name one, such as --gpu 'RTX 4090', or --vram 24GiB")
        );
    }
    Ok(found)
}

/// NVIDIA's, by its management library where that is installed. The total is what programs see.
fn nvidia() -> Option<Vec<Device>> {
    let nvml = Nvml::init().ok()?;
    let count = nvml.device_count().ok()?;
    let each = (0..count).filter_map(|index| {
        let device = nvml.device_by_index(index).ok()?;
        let memory = device.memory_info().ok()?;
        let name = device.name().ok()?;
        Some(with_bandwidth(Device {
            capacity: memory.total.saturating_sub(480 << 20),
            bandwidth: None,
            basis: format!("its driver shows {} MiB and keeps about 480", memory.total >> 20),
            name,
        }))
    });
    Some(each.collect())
}

/// AMD's, by what the kernel shows.
fn amd() -> Vec<Device> {
    let Ok(cards) = fs::read_dir("/sys/class/drm") else { return Vec::new() };
    let mut paths: Vec<_> = cards.filter_map(|card| Some(card.ok()?.path())).collect();
    paths.sort();
    let read = |path: &Path, name: &str| fs::read_to_string(path.join("device").join(name)).ok();
    let named = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("card").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let each = paths.iter().filter(|path| named(path)).filter_map(|path| {
        let capacity = read(path, "mem_info_vram_total")?.trim().parse().ok()?;
        let name = read(path, "product_name").map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "AMD device".to_string());
        Some(with_bandwidth(Device { name, capacity, bandwidth: None, basis: "as the kernel shows it".into() }))
    });
    each.collect()
}

/// Apple's chips share main memory.
fn apple() -> Option<Device> {
    let chip = sysctl("machdep.cpu.brand_string").filter(|chip| chip.starts_with("Apple"))?;
    let gib = main_memory()? >> 30;
    Device::named(&format!("{chip} {gib}GB")).ok()?.into_iter().next()
}

/// The bandwidth of the table's device of the same name, if there is one.
fn with_bandwidth(device: Device) -> Device {
    let known = Device::named(&device.name).ok().and_then(|known| known.into_iter().next());
    Device { bandwidth: known.and_then(|known| known.bandwidth), ..device }
}
