FROM debian
ADD rootfs.tar.gz /
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/x.tar.gz /tmp/
ADD --keep-git-dir=true https://example.com/repo.git#v1:docs /docs
ADD --unpack=true --chown=1:1 --chmod=u=rwX https://example.com/y.tar /y/
ADD ["with space", "/with space/"]
