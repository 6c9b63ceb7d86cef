"""Lists that file systems write of themselves, imported as scans."""
