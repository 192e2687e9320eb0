"""Operations with a fast form: reference, Triton kernel, gradient and cost, one file each."""
