//! Every recipe in `examples/` does what it says, on a gateway of its own.

use std::path::PathBuf;
use std::process::Command;

use super::PATIENT;
use crate::support::Gateway;

const README: &str = include_str!("../../../README.md");

fn recipes() -> Vec<PathBuf> {
    let directory = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    let mut recipes: Vec<_> = directory.map(|entry| entry.unwrap().path()).collect();
    // It has a test of its own.
    recipes.retain(|path| !path.ends_with("fenced_write.py"));
    recipes.sort();
    recipes
}

#[test]
fn every_recipe_prints_what_it_says_and_the_readme_names_it() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_redlockd"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let recipes = recipes();
    assert_eq!(recipes.len(), 15);
    for recipe in recipes {
        let (gateway, name) = (Gateway::start(PATIENT), recipe.file_name().unwrap().to_str().unwrap().to_owned());
        let text = std::fs::read_to_string(&recipe).unwrap();
        let promised = text.lines().find_map(|line| line.trim_start_matches("# ").strip_prefix("Prints: ")).unwrap();
        let output = Command::new(&recipe).arg(format!("http://{}", gateway.address())).env("PATH", &path).output().unwrap();
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said == format!("{promised}\n"), "{name} printed {said:?} instead of {promised:?}: {complained}");
        assert!(README.contains(&format!("(examples/{name})")), "the README does not name {name}");
    }
}
