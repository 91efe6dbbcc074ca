//! Writes the first inputs of every target into `fuzz/corpus`.

use std::fs;

fn main() -> std::io::Result<()> {
    for target in hostile::TARGETS {
        let folder = hostile::corpus_folder(target.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in hostile::seeds::seeds(target.name).into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
