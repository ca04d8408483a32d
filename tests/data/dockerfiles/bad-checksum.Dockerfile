FROM a
ADD --checksum=md5:0 https://x/y /y
