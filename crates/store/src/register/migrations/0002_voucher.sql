ALTER TABLE records ADD COLUMN voucher BLOB CHECK (voucher IS NULL OR length(voucher) = 20);
