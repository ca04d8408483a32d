# escape=`
FROM scratch
ENV A=C:\dir\ B=`$A
LABEL a=one `
      b="two `" three"
