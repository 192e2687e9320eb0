from tests.kernel_support import in_own_process

IMPORT = """
import importlib, pathlib, sys
import nnlib.kernels
for file in pathlib.Path(nnlib.kernels.__path__[0]).glob("*.py"):
    importlib.import_module("nnlib.kernels." + file.stem)
print(sorted({"triton", "torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


def test_neither_triton_nor_a_compiler_is_imported_with_the_library():
    assert in_own_process(IMPORT).strip() == "[]"
