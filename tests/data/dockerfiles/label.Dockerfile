FROM scratch
LABEL version="1.0" "com.example.vendor"='A \"B\"' multi="one \
two"
LABEL old way of it
