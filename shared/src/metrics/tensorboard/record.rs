//! TFRecord framing: length, its checksum, the data, their checksum.

/// Of CRC32C (Castagnoli), lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Added to a turned checksum, so that a checksum of data that hold checksums is a good one too.
const MASK: u32 = 0xa282_ead8;
const TABLE: [u32; 256] = table();

/// A record of these data.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let (of_length, of_data) = (masked(&length).to_le_bytes(), masked(data).to_le_bytes());
    [&length[..], &of_length, data, &of_data].concat()
}

/// The checksum as it is written.
pub(super) fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(MASK)
}

/// CRC32C, as in RFC 3720.
pub(super) fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| TABLE[(crc as u8 ^ byte) as usize] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}
