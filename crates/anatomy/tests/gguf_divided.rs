//! GGUFs that were divided: layers that predict further tokens may be in a file of their own, and the metadata of both
//! files count all layers. `data/gguf-headers` holds what precedes the tensors' data.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anatomy::atlas::Atlas;
use anatomy::model::Model;
use flate2::read::GzDecoder;

#[test]
fn what_is_in_another_file_is_not_missed() {
    let folder = Path::new("tests/data/gguf-headers");
    let bytes: BTreeMap<String, u64> =
        serde_json::from_str(&fs::read_to_string(folder.join("bytes.json")).unwrap()).unwrap();
    let mut head = Vec::new();
    GzDecoder::new(File::open(folder.join("converted-hy_v3.gz")).unwrap()).read_to_end(&mut head).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    fs::write(&path, &head).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(bytes["converted-hy_v3"]).unwrap();
    let model = Model::open(&path).unwrap();
    let container = &model.gguf().unwrap().container;
    let layers = |held: &dyn Fn(&str) -> bool| {
        let mut blueprint = Atlas::new().blueprint_of_gguf(&container.metadata).unwrap();
        let names = container.tensors.iter().map(|tensor| tensor.name.as_str());
        blueprint.divide(&container.metadata, names.filter(|name| held(name)));
        let mut layers: Vec<u32> = blueprint.tensors.iter().filter_map(|row| row.layer).collect();
        layers.dedup();
        layers
    };
    assert_eq!(layers(&|_| true), [0, 1, 2, 3]);
    assert_eq!(layers(&|name| !name.starts_with("blk.3.")), [0, 1, 2]);
    assert_eq!(layers(&|name| !name.starts_with("blk.") || name.starts_with("blk.3.")), [3]);
}
